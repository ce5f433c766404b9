"""The competition's own files ("Ultrasound Nerve Segmentation", Kaggle 2016), from its folder or zip.

train/S_N.tif is frame N of subject S, train/S_N_mask.tif its mask of 0 and 255; test/N.tif has no mask.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from training.sources.files import Files
from training.sources.layout import NERVE, Faults, Pair, SourceError, frame_of
from training.sources.pairing import Key, by_key, paired

LICENCE = "the competition's rules (kaggle.com/c/ultrasound-nerve-segmentation)"
SIZE = (420, 580)  # height and width
TEST = "test"  # the subject of frames that nobody labelled
NAMES = {
    "frame": re.compile(r"(?P<subject>[0-9]+)_(?P<number>[0-9]+)\.tif", re.IGNORECASE),
    "mask": re.compile(r"(?P<subject>[0-9]+)_(?P<number>[0-9]+)_mask\.tif", re.IGNORECASE),
    "test frame": re.compile(r"(?P<number>[0-9]+)\.tif", re.IGNORECASE),
}


def pairs(path: Path, faults: Faults) -> Iterator[Pair]:
    """The pairs of the competition's folder or zip, one in memory at a time, then its unlabelled test frames.

    Raises SourceError for a fault of the whole; a fault of one pair goes to `faults`.
    """
    files = Files(path)
    frames, masks, test_frames = _sorted_out(files, faults)
    if not frames:
        raise SourceError(str(path), "holds no S_N.tif", "Set nerve.path to the competition's folder or zip.")
    for key, frame, mask in paired(frames, masks, str(path), faults):
        if pair := faults.checked(partial(_pair, files, key, frame, mask)):
            yield pair
    for key, frame in test_frames.items():
        if pair := faults.checked(partial(_pair, files, key, frame, None)):
            yield pair


def _sorted_out(files: Files, faults: Faults) -> list[dict[Key, str]]:
    """Frames, masks and test frames; what is none of them is listed."""
    named: dict[str, list[tuple[Key, str]]] = {kind: [] for kind in NAMES}
    for file in files.names:
        for kind, pattern in NAMES.items():
            if found := pattern.fullmatch(PurePosixPath(file).name):
                # Leading zeros apart, "01" and "1" are one subject.
                subject = TEST if kind == "test frame" else str(int(found["subject"]))
                named[kind].append(((subject, int(found["number"])), file))
                break
        else:
            faults.list(file, "is neither a frame nor a mask of the competition")
    return [by_key(named[kind], faults) for kind in NAMES]


def _pair(files: Files, key: Key, frame: str, mask: str | None) -> Pair:
    data = files.read(frame)
    _competition_sized(data, frame)
    labels = None if mask is None else _labels(files.read(mask), mask)
    return Pair(data, ".tif", labels, *key, licence=LICENCE, file=frame)


def _labels(data: bytes, file: str) -> np.ndarray:
    """uint8 (420, 580), 1 where the mask is 255."""
    mask = _competition_sized(data, file)
    greys = np.setdiff1d(mask, (0, 255))
    if len(greys):
        reason = f"has grey values ({greys[0]} ...); a mask holds 0 and 255"
        raise SourceError(file, reason, "Copy it anew, or remove the pair.")
    return (mask == 255).astype(np.uint8) * NERVE


def _competition_sized(data: bytes, file: str) -> np.ndarray:
    """The picture's pixels: uint8 or uint16 (420, 580)."""
    pixels = frame_of(data, file).pixels
    if pixels.shape != SIZE:
        reason = f"is {pixels.shape[1]}x{pixels.shape[0]} pixels; the competition's are {SIZE[1]}x{SIZE[0]}"
        raise SourceError(file, reason, "Copy it anew, or remove the pair.")
    return pixels
