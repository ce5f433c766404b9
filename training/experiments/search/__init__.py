"""A search for better values of a candidate's parameters: the stage search."""

from training.workspace.tensorflow_import import import_tensorflow

import_tensorflow()  # before the modules of this package import Keras and Ray Tune
