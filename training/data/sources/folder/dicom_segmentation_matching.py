"""Match DICOM Segmentations to the frames of the ultrasound images that they refer to."""

from collections import defaultdict
from functools import partial

import numpy as np

from training.data.frame_mask_pair import NERVE, VESSEL, check_size
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import Annotation, FrameId, SourceFrame
from training.data.sources.folder.classes import BACKGROUND, ClassMap
from training.data.sources.folder.dicom_files import DicomImage
from training.data.sources.folder.dicom_segmentation_file import (
    EXPORT_AGAIN,
    MaskReader,
    Segmentation,
    SegmentFrame,
    read_segmentation,
)
from training.data.sources.folder_or_zip import SourceFiles

Marks = list[tuple[Segmentation, list[SegmentFrame]]]  # of one frame: the frames of each segmentation that mark it


def read_segmentations(
    files: SourceFiles, images: list[DicomImage], segmentations: list[str], classes: ClassMap, log: IngestLog
) -> list[Annotation]:
    """Return an annotation for each frame of an image that a segmentation marks.

    A frame of an image is annotated if a segmentation has a frame for it, which may be empty. Report segmentations that
    are not valid, and images that are missing or there twice. Raises ParameterError for an unknown class.
    """
    image_by_uid = {image.instance_uid: image for image in images if image.instance_uid}
    marks: dict[FrameId, Marks] = defaultdict(list)
    for file in segmentations:
        segmentation = log.attempt(partial(read_segmentation, files, file, classes))
        if segmentation is None:
            continue
        _report_missing(segmentation, image_by_uid, log)
        matched = log.attempt(partial(_match, segmentation, image_by_uid))
        for frame, segment_frames in (matched or {}).items():
            marks[frame].append((segmentation, segment_frames))
    reader = MaskReader(files)
    return [_annotation(frame, of_frame, reader, classes) for frame, of_frame in marks.items()]


def _report_missing(segmentation: Segmentation, images: dict[str, DicomImage], log: IngestLog) -> None:
    for uid in sorted({frame.instance_uid for frame in segmentation.frames} - images.keys()):
        reason = f"marks a DICOM image that is not there (SOPInstanceUID {uid})"
        log.report_error(SourceError(segmentation.file, reason, "Add the image, or remove the segmentation."))


def _match(segmentation: Segmentation, images: dict[str, DicomImage]) -> dict[FrameId, list[SegmentFrame]]:
    """Return the frames of a segmentation by the frame that they mark, without those of missing images.

    images: by SOPInstanceUID. Raises SourceError for a frame that marks no frame of its image.
    """
    matched: dict[FrameId, list[SegmentFrame]] = defaultdict(list)
    for segment_frame in segmentation.frames:
        if image := images.get(segment_frame.instance_uid):
            index = _frame_index(segmentation, segment_frame, image)
            matched[image.frame(index)].append(segment_frame)
    for frame, segment_frames in matched.items():
        segments = [number for segment_frame in segment_frames for number in segment_frame.segments]
        if len(set(segments)) < len(segments):
            raise SourceError(segmentation.file, f"has two masks of the same segment for {frame}", EXPORT_AGAIN)
    return matched


def _frame_index(segmentation: Segmentation, frame: SegmentFrame, image: DicomImage) -> int:
    """Return the number, from 0, of the image's frame that a frame of a segmentation marks.

    A segmentation of a cine without frame numbers is read if each segment has as many frames as the cine, and their
    Temporal Position Index gives the order.
    """
    number = frame.number
    if number is None and image.frame_count == 1:
        number = 1
    elif number is None:
        alike = [other for other in segmentation.frames if other[1:3] == frame[1:3]]  # of this segment and image
        if sorted(other.time or 0 for other in alike) != list(range(1, image.frame_count + 1)):
            reason = f"does not say which of the {image.frame_count} frames of {image.file} it marks"
            raise SourceError(segmentation.file, reason, "Export it with ReferencedFrameNumber for each frame.")
        number = frame.time or 0
    if not 1 <= number <= image.frame_count:
        reason = f"marks frame {number} of {image.file}, which has {image.frame_count} frames"
        raise SourceError(segmentation.file, reason, EXPORT_AGAIN)
    return number - 1


def _annotation(frame: FrameId, marks: Marks, reader: MaskReader, classes: ClassMap) -> Annotation:
    return Annotation(
        frame,
        ", ".join(segmentation.file for segmentation, _ in marks),
        [
            segmentation.class_names[number]
            for segmentation, segment_frames in marks
            for segment_frame in segment_frames
            for number in segment_frame.segments
        ],
        partial(_draw, frame, marks, reader, classes),
    )


def _draw(frame: FrameId, marks: Marks, reader: MaskReader, classes: ClassMap, source_frame: SourceFrame) -> np.ndarray:
    """Return the labels of a frame. Where segments overlap, nerve wins.

    Raises SourceError if two segmentations give a nerve or a vessel other pixels.
    """
    masks: dict[str, np.ndarray] = {}
    first_file: dict[str, str] = {}
    for segmentation, segment_frames in marks:
        for name, mask in reader.read(segmentation, segment_frames).items():
            check_size(mask, source_frame.decoded.pixels, segmentation.file, "Export it in the size of its image.")
            if classes.labels[name] == BACKGROUND:
                continue
            if name in masks and not np.array_equal(mask, masks[name]):
                reason = f"gives {name!r} other pixels than {first_file[name]} on {frame}"
                raise SourceError(segmentation.file, reason, "Remove one of the two segmentations.")
            masks[name] = mask
            first_file.setdefault(name, segmentation.file)
    labels = np.full(source_frame.size, BACKGROUND, np.uint8)
    for label in (VESSEL, NERVE):
        for name, mask in masks.items():
            if classes.labels[name] == label:
                labels[mask] = label
    return labels
