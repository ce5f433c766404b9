"""Videos whose masks lie in a folder of the video's name: masks/NAME/NAME_000.jpg belongs to frame 0 of NAME.mp4."""

import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import cv2

from service.decoding.cine import open_cine
from service.errors import FrameError
from training.data.frame_mask_pair import FrameMaskPair, check_size
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.mask_images import decode_mask
from training.data.sources.folder_or_zip import VIDEO_SUFFIXES, SourceFiles

NUMBER = re.compile(r"([0-9]+)$")


def is_video(file: str) -> bool:
    """Return whether a file is a video, by its name."""
    return PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES


def split_video_masks(files: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the mask files of each video, and all files that belong to no video.

    A mask of a video lies in a folder with the video's name.
    """
    videos = {PurePosixPath(file).stem: file for file in files if is_video(file)}
    masks: dict[str, list[str]] = {file: [] for file in videos.values()}
    others = []
    for file in files:
        folder = PurePosixPath(file).parent.name
        if folder in videos and not is_video(file):
            masks[videos[folder]].append(file)
        elif not is_video(file):
            others.append(file)
    return masks, others


def read_video_pairs(
    files: SourceFiles, video: str, masks: list[str], classes: ClassMap, log: IngestLog
) -> Iterator[FrameMaskPair]:
    """Yield a pair for each mask of a video; the video is the subject. List frames without a mask as left out.

    Raises SourceError for a video that cannot be read or has no mask.
    """
    if not masks:
        raise SourceError(video, "is a video without masks", "Add masks/NAME/NAME_000.png, or remove the video.")
    try:
        cine = open_cine(io.BytesIO(files.read(video)))
    except FrameError as error:
        reason = f"is not a readable video ({error.message.rstrip('.')})"
        raise SourceError(video, reason, "Convert it to MP4 or AVI, or remove it.") from error
    numbers = {}
    for mask in masks:
        match = NUMBER.search(PurePosixPath(mask).stem)
        if match is None or int(match[1]) >= cine.frame_count:
            reason = f"is a mask of no frame: {video} has frames 0 to {cine.frame_count - 1}"
            log.report_error(SourceError(mask, reason, "Name it after its frame, from 0."))
        else:
            numbers[int(match[1])] = mask
    for index in sorted(set(range(cine.frame_count)) - numbers.keys()):
        log.leave_out(f"{video}[{index}]", "is a frame of a video without a mask")
    for index, mask in sorted(numbers.items()):
        frame = cine.decode(cine.read_encoded(index), index)
        labels = decode_mask(files.read(mask), classes, mask)
        check_size(labels, frame.pixels, mask, "Write it again in the size of the video.")
        yield FrameMaskPair(
            frame_file=cv2.imencode(".png", frame.pixels)[1].tobytes(),
            suffix=".png",
            labels=labels,
            subject=PurePosixPath(video).stem,
            number=index,
            source_name=f"{video}[{index}]",
        )
