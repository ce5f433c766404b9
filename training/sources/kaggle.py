"""The competition's own files ("Ultrasound Nerve Segmentation", Kaggle 2016), from its folder or zip.

train/S_N.tif is frame N of subject S, train/S_N_mask.tif its mask of 0 and 255; test/N.tif has no mask.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

import numpy as np

from training.sources.layout import NERVE, Faults, Pair, SourceError, frame_of

LICENCE = "the competition's rules (kaggle.com/c/ultrasound-nerve-segmentation)"
SIZE = (420, 580)  # height and width
TEST = "test"  # the subject of frames that nobody labelled
TRAIN_NAME = re.compile(r"(\d+)_(\d+)(_mask)?\.tif", re.IGNORECASE)
TEST_NAME = re.compile(r"(\d+)\.tif", re.IGNORECASE)
HIDDEN = {"Thumbs.db", "__MACOSX"}


class Files:
    """The files of a folder or of a zip, by their path inside it."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_dir():
            self.names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        elif path.is_file():
            self.zip = _open(path)
            self.names = sorted(entry.filename for entry in self.zip.infolist() if not entry.is_dir())
        else:
            raise SourceError(str(path), "is neither a folder nor a zip", "Set nerve.path to the competition's files.")

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises SourceError where they cannot be read."""
        try:
            return (self.path / name).read_bytes() if self.path.is_dir() else self.zip.read(name)
        except (OSError, BadZipFile, RuntimeError, NotImplementedError, EOFError) as fault:
            raise SourceError(name, f"cannot be read ({fault})", f"Copy {self.path} anew.") from fault


def _open(path: Path) -> ZipFile:
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError) as fault:
        raise SourceError(str(path), f"is no whole zip ({fault})", "Download it again.") from fault
    for entry in archive.infolist():
        if entry.flag_bits & 1:
            raise SourceError(f"{path}: {entry.filename}", "is encrypted", "Unpack the zip and name the folder.")
    return archive


@dataclass(frozen=True)
class Name:
    """What a file's name says: subject ("test" for the unlabelled), number, and whether it is a mask."""

    subject: str
    number: int
    is_mask: bool


def parse(path: str) -> Name | None:
    """The meaning of a file's name, None where it has none."""
    parts = PurePosixPath(path).parts
    if found := TRAIN_NAME.fullmatch(parts[-1]):
        return Name(found[1].lstrip("0") or "0", int(found[2]), bool(found[3]))
    if found := TEST_NAME.fullmatch(parts[-1]):
        return Name(TEST, int(found[1]), False)
    return None


def pairs(path: Path, faults: Faults) -> Iterator[Pair]:
    """The pairs of the competition's folder or zip, one in memory at a time, then its unlabelled test frames.

    Raises SourceError for a fault of the whole; a fault of one pair goes to `faults`.
    """
    files = Files(path)
    by_name = _by_name(files, faults)
    frames = {name for name in by_name if not name.is_mask}
    for name in sorted(by_name, key=lambda name: (name.subject == TEST, len(name.subject), name.subject, name.number)):
        mask = Name(name.subject, name.number, True)
        if name.is_mask:
            if Name(name.subject, name.number, False) not in frames:
                remedy = "Copy the frame too, or remove the mask."
                faults.add(SourceError(by_name[name], "is a mask without a frame", remedy))
        elif name.subject != TEST and mask not in by_name:
            faults.add(
                SourceError(by_name[name], "is a frame without a mask", "Copy the mask too, or remove the frame.")
            )
        elif pair := faults.checked(lambda name=name, mask=mask: _pair(files, by_name, name, mask)):
            yield pair


def _by_name(files: Files, faults: Faults) -> dict[Name, str]:
    """The path of each frame and mask; unknown files are listed, files that claim the same name are faults."""
    parsed = {}
    for path in files.names:
        if HIDDEN & set(PurePosixPath(path).parts) or PurePosixPath(path).name.startswith("."):
            continue
        if (name := parse(path)) is None:
            faults.list(path, "is neither a frame nor a mask of the competition")
        else:
            parsed[path] = name
    claims = Counter(parsed.values())
    for path, name in parsed.items():
        if claims[name] > 1:
            faults.add(SourceError(path, "claims the same frame as another file", "Remove one of them."))
    by_name = {name: path for path, name in parsed.items() if claims[name] == 1}
    if not by_name:
        raise SourceError(str(files.path), "holds no S_N.tif", "Set nerve.path to the competition's files.")
    return by_name


def _pair(files: Files, by_name: dict[Name, str], name: Name, mask: Name) -> Pair:
    file = by_name[name]
    data = files.read(file)
    _sized(frame_of(data, file).pixels, file)
    labels = None if name.subject == TEST else _labels(files.read(by_name[mask]), by_name[mask])
    return Pair(data, ".tif", labels, name.subject, name.number, file=file)


def _labels(data: bytes, file: str) -> np.ndarray:
    """uint8 (420, 580), 1 where the mask is 255."""
    mask = _sized(frame_of(data, file).pixels, file)
    greys = np.setdiff1d(np.unique(mask), (0, 255))
    if len(greys):
        raise SourceError(
            file, f"has grey values ({greys[0]} ...); a mask holds 0 and 255", "Draw it anew, or remove it."
        )
    return (mask == 255).astype(np.uint8) * NERVE


def _sized(pixels: np.ndarray, file: str) -> np.ndarray:
    if pixels.shape != SIZE:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise SourceError(file, f"is {size} pixels; the competition's are 580x420", "Copy it anew, or remove the pair.")
    return pixels
