"""Train a candidate: batches, augmentation, pre-training and the training loop."""

from training.workspace.tensorflow_import import import_tensorflow

import_tensorflow()  # before the modules of this package import Keras
