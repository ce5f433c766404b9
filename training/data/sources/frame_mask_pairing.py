"""Pair frame files and mask files by subject and number, and read a pair."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np

from training.data.frame_mask_pair import FrameMaskPair, check_orientation, check_size, decode_frame
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder_or_zip import SourceFiles

# More unpaired files than both limits mean an incomplete copy of the data set, which is an error of its own.
MAX_UNPAIRED = 10
MAX_UNPAIRED_SHARE = 0.1
COPY_AGAIN = "Copy both again, or remove the pair."

Key = TypeVar("Key", bound=str | tuple)


class FrameKey(NamedTuple):
    """What a frame and its mask have in common."""

    subject: str
    number: int


class PairFiles(NamedTuple):
    """The files of a pair. mask: None for an unlabelled frame."""

    key: FrameKey
    frame: str
    mask: str | None


def index_by_key(
    files: Iterable[tuple[Key, str]], log: IngestLog, same: str = "has the same subject and number as another file"
) -> dict[Key, str]:
    """Return the file of each key, sorted by key. If several files have the same key, each of them is an error.

    same: what the same key means, for messages.
    """
    files_by_key: dict[Key, list[str]] = defaultdict(list)
    for key, file in files:
        files_by_key[key].append(file)
    for same_key in files_by_key.values():
        if len(same_key) > 1:
            for file in dict.fromkeys(same_key):
                log.report_error(SourceError(file, f"{same} ({', '.join(same_key)})", "Remove all but one."))
    return {key: files_by_key[key][0] for key in sorted(files_by_key) if len(files_by_key[key]) == 1}


def pair_files(frames: dict[FrameKey, str], masks: dict[FrameKey, str], source: str, log: IngestLog) -> list[PairFiles]:
    """Return the files of each pair. A frame or a mask without its partner is an error.

    source: the path of the data set, for messages.
    """
    unpaired = frames.keys() ^ masks.keys()
    if len(unpaired) > max(MAX_UNPAIRED, MAX_UNPAIRED_SHARE * len(frames.keys() | masks.keys())):
        reason = f"is incomplete: it has {len(frames)} frames and {len(masks)} masks, {len(unpaired)} of them unpaired"
        log.report_error(SourceError(source, reason, "Copy or download it again."))
    for key in sorted(unpaired):
        if key in frames:
            log.report_error(frame_without_mask(frames[key]))
        else:
            log.report_error(mask_without_frame(masks[key]))
    return [PairFiles(key, frames[key], masks[key]) for key in frames if key in masks]


def frame_without_mask(frame: str) -> SourceError:
    return SourceError(frame, "is a frame without a mask", "Add its mask, or remove the frame.")


def mask_without_frame(mask: str) -> SourceError:
    return SourceError(mask, "is a mask without a frame", "Add its frame, or remove the mask.")


def read_pair(
    files: SourceFiles,
    pair: PairFiles,
    decode_labels: Callable[[bytes, str], tuple[np.ndarray, bool]],
    size: tuple[int, int] | None = None,
) -> FrameMaskPair:
    """Return the pair of a picture file and its mask file.

    decode_labels: takes the mask file's bytes and name. Returns the labels, uint8 (height, width), and whether vessels
        are labelled.
    size: height and width of every frame in the data set. None: they differ.

    Raises SourceError, of `decode_labels` too.
    """
    data = files.read(pair.frame)
    pixels = decode_frame(data, pair.frame).pixels
    if size is not None and pixels.shape != size:
        (height, width), (set_height, set_width) = pixels.shape, size
        reason = f"has {width}x{height} pixels, but the data set's frames have {set_width}x{set_height}"
        raise SourceError(pair.frame, reason, COPY_AGAIN)
    labels, vessels = None, False
    if pair.mask is not None:
        mask_data = files.read(pair.mask)
        check_orientation(data, mask_data, pair.mask)
        labels, vessels = decode_labels(mask_data, pair.mask)
        check_size(labels, pixels, pair.mask, COPY_AGAIN)
    return FrameMaskPair(
        frame_file=data,
        suffix=PurePosixPath(pair.frame).suffix.lower(),
        labels=labels,
        subject=pair.key.subject,
        number=pair.key.number,
        vessels=vessels,
        source_name=pair.frame,
    )
