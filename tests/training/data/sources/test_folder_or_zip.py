"""The files of a folder and of a zip file."""

import zipfile
from pathlib import Path

import pytest

from tests.privileges import without_privileges
from training.data.source_errors import SourceError
from training.data.sources.folder_or_zip import SourceFiles

CONTENTS = {"a/1.tif": bytes(range(256)) * 8, "b.txt": b"text"}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in CONTENTS.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    return tmp_path / "set"


@pytest.fixture
def archive(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    return tmp_path / "set.zip"


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_folder_and_a_zip_file_have_the_same_files(request, kind):
    files = SourceFiles(request.getfixturevalue(kind))
    assert {name: files.read(name) for name in files.names} == CONTENTS
    assert {name: files.read_head(name, 3) for name in files.names} == {n: data[:3] for n, data in CONTENTS.items()}
    with files.open("a/1.tif") as file:
        file.seek(300)
        assert file.read(2) == CONTENTS["a/1.tif"][300:302]


@pytest.mark.parametrize("method", ["read", "open", "read_head"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(folder, method):
    (folder / "b.txt").unlink()
    (folder / "b.txt").symlink_to("nowhere")
    arguments = (10,) if method == "read_head" else ()
    with pytest.raises(SourceError, match=r"b\.txt: cannot be read .* Copy .*set again"):
        getattr(SourceFiles(folder), method)("b.txt", *arguments)


def test_an_unreadable_folder_is_an_error(folder, monkeypatch):
    (folder / "more").mkdir(mode=0)
    monkeypatch.chdir(folder.parent)
    with without_privileges(folder.parent), pytest.raises(SourceError, match=r"set/more: cannot be read"):
        SourceFiles(Path(folder.name))


def test_a_damaged_member_of_a_zip_file_is_an_error_of_this_file(archive):
    damaged = bytearray(archive.read_bytes())
    damaged[100:200] = bytes(100)
    archive.write_bytes(damaged)
    files = SourceFiles(archive)
    for method in (files.read, files.open):
        with pytest.raises(SourceError, match=r"a/1\.tif: cannot be read .* Copy .*set\.zip again"):
            method("a/1.tif")
    assert files.read("b.txt") == b"text"


def test_an_encrypted_zip_file_is_an_error(archive):
    encrypted = bytearray(archive.read_bytes())
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the central directory
    archive.write_bytes(encrypted)
    with pytest.raises(SourceError, match=r"is encrypted. Unpack it, and set nerve.path"):
        SourceFiles(archive)


@pytest.mark.parametrize("name", ["../1_1.tif", "/1_1.tif", "train/../../1_1.tif", r"C:\1_1.tif"])
def test_a_zip_file_that_points_outside_itself_is_an_error(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(SourceError, match="points outside the zip file"):
        SourceFiles(tmp_path / "hostile.zip")
