"""Cines whose masks lie in a folder of their name: masks/NAME/NAME_000.jpg belongs to frame 0 of NAME.mp4."""

import re
from collections import defaultdict
from functools import partial
from pathlib import PurePosixPath

from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import FrameId
from training.data.sources.folder.file_names import end_alike, file_stem, frame_key

NUMBER = re.compile(r"([0-9]+)$")


def split_cine_masks(cines: list[str], masks: list[str], log: IngestLog) -> tuple[list[tuple[FrameId, str]], list[str]]:
    """Return the frames of cines that have a mask, with the mask file, and the masks that belong to no cine.

    cines: files of videos and DICOM cines. Report masks whose frame is not clear.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for cine in cines:
        by_stem[file_stem(PurePosixPath(cine))].append(cine)
    of_cines, others = [], []
    for mask in masks:
        same_name = by_stem.get(PurePosixPath(mask).parent.name)
        if same_name is None:
            others.append(mask)
        elif frame := log.attempt(partial(_find_frame, mask, same_name)):
            of_cines.append((frame, mask))
    return of_cines, others


def _find_frame(mask: str, cines: list[str]) -> FrameId:
    """Return the frame of a mask. cines: those that have the name of its folder. Raises SourceError."""
    folder = frame_key(PurePosixPath(mask)).rpartition("/")[0]
    fitting = [cine for cine in cines if len(cines) == 1 or end_alike(frame_key(PurePosixPath(cine)), folder)]
    if len(fitting) != 1:
        reason = f"belongs to one of several files of that name ({', '.join(cines)})"
        raise SourceError(mask, reason, "Give each of them a name of its own.")
    number = NUMBER.search(frame_key(PurePosixPath(mask)))
    if number is None:
        reason = f"is a mask of no frame: its name does not end in the number of a frame of {fitting[0]}"
        raise SourceError(mask, reason, "Name it after its frame, from 0.")
    return FrameId(fitting[0], int(number[1]))
