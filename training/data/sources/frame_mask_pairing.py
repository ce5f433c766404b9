"""Pair frame files and mask files by subject and number."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from training.data.source_errors import IngestLog, SourceError

# More unpaired files than both limits mean an incomplete copy of the data set, which is an error of its own.
MAX_UNPAIRED = 10
MAX_UNPAIRED_SHARE = 0.1


class FrameKey(NamedTuple):
    """What a frame and its mask have in common."""

    subject: str
    number: int


def index_by_key(files: Iterable[tuple[FrameKey, str]], log: IngestLog) -> dict[FrameKey, str]:
    """Return the file of each key, sorted by key. If several files have the same key, each of them is an error."""
    files_by_key: dict[FrameKey, list[str]] = defaultdict(list)
    for key, file in files:
        files_by_key[key].append(file)
    for same_key in files_by_key.values():
        if len(same_key) > 1:
            for file in same_key:
                reason = f"has the same subject and number as another file ({', '.join(same_key)})"
                log.report_error(SourceError(file, reason, "Remove all but one."))
    return {key: files_by_key[key][0] for key in sorted(files_by_key) if len(files_by_key[key]) == 1}


def pair_files(
    frames: dict[FrameKey, str], masks: dict[FrameKey, str], source: str, log: IngestLog
) -> list[tuple[FrameKey, str, str]]:
    """Return key, frame file and mask file of each pair. A frame or a mask without its partner is an error.

    source: the path of the data set, for messages.
    """
    unpaired = frames.keys() ^ masks.keys()
    if len(unpaired) > max(MAX_UNPAIRED, MAX_UNPAIRED_SHARE * len(frames.keys() | masks.keys())):
        reason = f"is incomplete: it has {len(frames)} frames and {len(masks)} masks, {len(unpaired)} of them unpaired"
        log.report_error(SourceError(source, reason, "Copy or download it again."))
    for key in sorted(unpaired):
        if key in frames:
            remedy = "Add its mask, or remove the frame."
            log.report_error(SourceError(frames[key], "is a frame without a mask", remedy))
        else:
            remedy = "Add its frame, or remove the mask."
            log.report_error(SourceError(masks[key], "is a mask without a frame", remedy))
    return [(key, frames[key], masks[key]) for key in frames if key in masks]
