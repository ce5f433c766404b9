"""U-nets, their encoders and weights, losses, ONNX export and batch-norm recalibration."""

from training.workspace.tensorflow_import import import_tensorflow

import_tensorflow()  # before the modules of this package import Keras
