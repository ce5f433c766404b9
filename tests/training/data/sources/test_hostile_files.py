"""Hostile files of a source: each is an error that names it, and memory stays bounded."""

import os
import random
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.frames import disc, png
from tests.project_copy import ROOT, nerve
from training.data.source_errors import IngestLog, SourceError
from training.data.source_ingestion import source_pairs
from training.data.sources import folder_or_zip
from training.data.sources.folder_or_zip import MAX_FILE_BYTES, SourceFiles

BOMB_BYTES = 3 * MAX_FILE_BYTES
# Reads a member, with little memory above what the libraries reserve, and prints its error.
READ_MEMBER = """
import resource, sys
from pathlib import Path
from training.data.source_errors import SourceError
from training.data.sources.folder_or_zip import MAX_FILE_BYTES, SourceFiles
files = SourceFiles(Path(sys.argv[1]))
reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, 2 * (reserved + 2 * MAX_FILE_BYTES + 2**26,))
try:
    files.read(sys.argv[2])
except SourceError as error:
    print(error)
"""
# The names of two frames and their masks in each source.
NAMES = {
    "usgra": ("images/0001.png", "masks/0001.png", "images/0002.png", "masks/0002.png"),
    "folder": ("1_1.png", "1_1_mask.png", "1_2.png", "1_2_mask.png"),
    "kaggle": ("train/1_1.tif", "train/1_1_mask.tif", "train/1_2.tif", "train/1_2_mask.tif"),
}


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def change_entry(path: Path, name: str, offset: int, value: bytes) -> None:
    """Overwrite a field of a member's entry in the zip file's directory; the member itself stays."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(data)


def declare_size(path: Path, name: str, size: int) -> None:
    """Change the unpacked size of a member in the zip file's directory."""
    change_entry(path, name, 24, size.to_bytes(4, "little"))


def frame_and_mask() -> tuple[bytes, bytes]:
    pixels = disc(420, 580)
    return png(pixels), png((pixels > 150).astype(np.uint8) * 255)


def read_error(path: Path, name: str) -> str:
    with pytest.raises(SourceError) as error:
        SourceFiles(path).read(name)
    return str(error.value)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """BOMB_BYTES zeros, deflated."""
    deflate, block = zlib.compressobj(1, zlib.DEFLATED, -15), bytes(2**20)
    return b"".join(deflate.compress(block) for _ in range(BOMB_BYTES // len(block))) + deflate.flush()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("declared_bytes", "message"),
    [
        (BOMB_BYTES, r"has 1,536 MiB; a file may have 512\. Divide it"),
        (MAX_FILE_BYTES, r"cannot be read \(Bad CRC-32"),
        (1000, r"cannot be read \(Bad CRC-32"),
    ],
    ids=["its size", "the limit", "a small size"],
)
def test_a_zip_bomb_that_declares(tmp_path: Path, bomb: bytes, declared_bytes: int, message: str) -> None:
    path = write_zip(tmp_path / "archive.zip", {"bomb.png": bomb}, zipfile.ZIP_STORED)
    change_entry(path, "bomb.png", 10, zipfile.ZIP_DEFLATED.to_bytes(2, "little"))
    declare_size(path, "bomb.png", declared_bytes)
    command = [sys.executable, "-c", READ_MEMBER, str(path), "bomb.png"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    assert re.match(rf"bomb\.png: {message}", process.stdout), process.stdout


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_a_compression_whose_output_has_no_limit_is_an_error(tmp_path: Path, method: int, name: str) -> None:
    path = write_zip(tmp_path / "archive.zip", {"1.png": b"1"}, method)
    assert f"1.png: is compressed with {name}. Create the zip file again with Deflate." in read_error(path, "1.png")


def test_a_large_file_of_a_folder_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "1.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 2**20)  # without blocks on the disk
    assert "1.png: has 513 MiB; a file may have 512. Divide it" in read_error(tmp_path, "1.png")


def test_a_pipe_and_a_device_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        assert f"{name}: is not a regular file. Remove it." in read_error(tmp_path, name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_file_is_an_error_of_this_file(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("1.png", b"1"), ("2.png", b"2"), ("1.png", b"other")):
            archive.writestr(name, data)
    assert SourceFiles(path).names == ["1.png", "2.png"]
    assert "1.png: is in the zip file twice. Create the zip file again" in read_error(path, "1.png")
    assert SourceFiles(path).read("2.png") == b"2"


@pytest.mark.slow
def test_a_damaged_zip_file_raises_nothing_but_source_errors(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", {"a/1.png": b"x" * 1000, "神经/2.png": b"yz" * 500, "3.txt": b""})
    whole, rng = path.read_bytes(), random.Random(0)
    errors = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 3))):
            data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))
        path.write_bytes(data)
        try:
            files = SourceFiles(path)
            for name in files.names:
                files.read(name)
        except SourceError:
            errors += 1
    assert errors > 500


@pytest.mark.parametrize("kind", ["folder", "zip file"])
def test_too_many_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(folder_or_zip, "MAX_FILES", 3)
    path = tmp_path / "data"
    if kind == "folder":
        path.mkdir()
        for number in range(4):
            (path / f"{number}.png").touch()
    else:
        write_zip(path, {f"{number}.png": b"" for number in range(4)})
    with pytest.raises(SourceError, match=r"data: has more than 3 files\. Set nerve\.path"):
        SourceFiles(path)


@pytest.mark.parametrize("hostile", ["frame", "mask"])
@pytest.mark.parametrize("source", NAMES)
def test_on_error_skip_lists_a_large_member_and_reads_the_others(tmp_path: Path, source: str, hostile: str) -> None:
    names = NAMES[source]
    path = write_zip(tmp_path / "archive.zip", dict(zip(names, 2 * frame_and_mask(), strict=True)))
    large = names[2 if hostile == "frame" else 3]
    declare_size(path, large, 2**31)
    parameters = {"source": source, "path": str(path)}
    with pytest.raises(SourceError, match=f"{large}: has 2,048 MiB; a file may have 512"):
        list(source_pairs(nerve(parameters), IngestLog(skip=False)))
    log = IngestLog(skip=True)
    pairs = list(source_pairs(nerve(parameters | {"on_error": "skip"}), log))
    assert [pair.source_name for pair in pairs] == [names[0]]
    assert (large, "has 2,048 MiB; a file may have 512") in log.left_out


def test_a_zip_file_and_a_large_file_of_no_known_kind_are_listed(tmp_path: Path) -> None:
    members = dict(zip(NAMES["folder"][:2], frame_and_mask(), strict=True))
    write_zip(tmp_path / "inner.zip", members)
    members |= {"notes.bin": b"", "inner.zip": (tmp_path / "inner.zip").read_bytes()}
    path = write_zip(tmp_path / "archive.zip", members)
    declare_size(path, "notes.bin", 2**31)
    log = IngestLog(skip=True)
    pairs = list(source_pairs(nerve({"source": "folder", "path": str(path)}), log))
    assert [pair.source_name for pair in pairs] == ["1_1.png"]
    assert {file for file, _ in log.left_out} == {"inner.zip", "notes.bin"}
