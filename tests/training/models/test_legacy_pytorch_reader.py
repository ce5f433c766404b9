"""The reader accepts PyTorch's legacy format and calls no function that a file names."""

import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from training.models import legacy_pytorch_reader
from training.models.legacy_pytorch_reader import read_legacy_checkpoint


def rebuild_tensor(*arguments):
    raise AssertionError("written by name only")


class FloatStorage:
    pass


class Tensor:
    """A tensor in a test checkpoint: a view of the storage "7"."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.view = offset, shape, strides

    def __reduce__(self):
        return rebuild_tensor, (Storage(), *self.view, False, OrderedDict())


class Storage:
    pass


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        return ("storage", FloatStorage, "7", "cpu", 6) if isinstance(item, Storage) else None


def make_checkpoint(tensors: dict[str, Tensor], numbers: np.ndarray) -> bytes:
    stream = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(header, stream, protocol=2)
    Pickler(stream, protocol=2).dump(OrderedDict(tensors))
    pickle.dump(["7"], stream, protocol=2)
    return stream.getvalue() + struct.pack("<q", numbers.size) + numbers.tobytes()


@pytest.fixture(autouse=True)
def allow_test_names(monkeypatch):
    """PyTorch is not installed, so the test checkpoint names this module's stand-ins."""
    allowed = legacy_pytorch_reader.ALLOWED_GLOBALS
    names = {
        (__name__, "rebuild_tensor"): allowed["torch._utils", "_rebuild_tensor_v2"],
        (__name__, "FloatStorage"): allowed["torch", "FloatStorage"],
    }
    monkeypatch.setattr(legacy_pytorch_reader, "ALLOWED_GLOBALS", allowed | names)


def test_tensors_are_views_of_their_storage():
    numbers = np.arange(6, dtype=np.float32)
    tensors = {
        "matrix": Tensor(0, (2, 3), (3, 1)),
        "transposed": Tensor(0, (3, 2), (1, 3)),
        "scalar": Tensor(4, (), ()),
    }
    arrays = read_legacy_checkpoint(make_checkpoint(tensors, numbers))
    np.testing.assert_array_equal(arrays["matrix"], numbers.reshape(2, 3))
    np.testing.assert_array_equal(arrays["transposed"], numbers.reshape(2, 3).T)
    assert arrays["scalar"] == 4
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_a_tensor_larger_than_its_storage_is_rejected():
    with pytest.raises((ValueError, TypeError)):
        read_legacy_checkpoint(make_checkpoint({"matrix": Tensor(4, (2, 3), (3, 1))}, np.zeros(6, np.float32)))


@pytest.mark.parametrize("name", [b"os\nsystem", b"numpy\nload", b"builtins\neval"])
def test_a_pickle_that_names_another_function_is_rejected(name):
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        read_legacy_checkpoint(b"c" + name + b"\n(S'true'\ntR.")
