"""The files of the Kaggle competition "Ultrasound Nerve Segmentation" (2016), in a folder or a zip file.

train/S_N.tif is frame N of subject S, train/S_N_mask.tif its mask (0 and 255). test/N.tif has no mask.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from training.data.frame_mask_pair import NERVE, FrameMaskPair, decode_frame
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder_or_zip import SourceFiles, leave_out_or_report
from training.data.sources.frame_mask_pairing import FrameKey, PairFiles, index_by_key, pair_files, read_pair
from training.workspace.parameter_validation import ParameterError

LICENCE = "the competition's rules (kaggle.com/c/ultrasound-nerve-segmentation)"
HEIGHT_PX, WIDTH_PX = 420, 580
TEST_SUBJECT = "test"  # of the unlabelled test frames
NAMES = {
    "frame": re.compile(r"(?P<subject>[0-9]+)_(?P<number>[0-9]+)\.tif", re.IGNORECASE),
    "mask": re.compile(r"(?P<subject>[0-9]+)_(?P<number>[0-9]+)_mask\.tif", re.IGNORECASE),
    "test frame": re.compile(r"(?P<number>[0-9]+)\.tif", re.IGNORECASE),
}


def pairs(path: Path | None, log: IngestLog) -> Iterator[FrameMaskPair]:
    """Return the pairs of the competition's folder or zip file, then its unlabelled test frames, one at a time.

    Raises ParameterError without a path, and SourceError for an error of the whole data set. The error of one pair goes
    to `log`.
    """
    if path is None:
        raise ParameterError(
            "params.yaml: nerve.path is empty, and Kaggle's files cannot be downloaded without an account. Download "
            "them (kaggle.com/c/ultrasound-nerve-segmentation) and set nerve.path to the folder or zip file."
        )
    return _pairs(path, log)


def _pairs(path: Path, log: IngestLog) -> Iterator[FrameMaskPair]:
    files = SourceFiles(path)
    frames, masks, test_frames = _sort_files(files, log)
    if not frames:
        remedy = "Set nerve.path in params.yaml to the competition's folder or zip file."
        raise SourceError(str(path), "has no file S_N.tif", remedy)
    unlabelled = [PairFiles(key, frame, None) for key, frame in test_frames.items()]
    for pair_of_files in [*pair_files(frames, masks, str(path), log), *unlabelled]:
        if pair := log.attempt(partial(_read_pair, files, pair_of_files)):
            yield pair


def _sort_files(files: SourceFiles, log: IngestLog) -> list[dict[FrameKey, str]]:
    """Return the frame files, mask files and test frame files by subject and number. Other files are left out."""
    by_kind: dict[str, list[tuple[FrameKey, str]]] = {kind: [] for kind in NAMES}
    for file in files.names:
        if match := _match_name(PurePosixPath(file).name):
            kind, key = match
            by_kind[kind].append((key, file))
        else:
            leave_out_or_report(file, "a frame (S_N.tif, N.tif) nor a mask (S_N_mask.tif) of the competition", log)
    return [index_by_key(by_kind[kind], log) for kind in NAMES]


def _match_name(name: str) -> tuple[str, FrameKey] | None:
    """Return the kind of a file, a key of NAMES, and its subject and number; None for another file."""
    for kind, pattern in NAMES.items():
        if match := pattern.fullmatch(name):
            # "01" and "1" are the same subject.
            subject = TEST_SUBJECT if kind == "test frame" else str(int(match["subject"]))
            return kind, FrameKey(subject, int(match["number"]))
    return None


def _read_pair(files: SourceFiles, pair: PairFiles) -> FrameMaskPair:
    return replace(read_pair(files, pair, _decode_labels, (HEIGHT_PX, WIDTH_PX)), licence=LICENCE)


def _decode_labels(data: bytes, file: str) -> tuple[np.ndarray, bool]:
    """Return the labels of a mask, uint8 (height, width), NERVE where the mask is 255, and that vessels are unknown."""
    mask = decode_frame(data, file).pixels
    other_values = np.setdiff1d(mask, (0, 255))
    if len(other_values):
        reason = f"has the grey value {other_values[0]}, but a mask has only 0 and 255"
        raise SourceError(file, reason, "Copy it again, or remove the pair.")
    return (mask == 255).astype(np.uint8) * NERVE, False
