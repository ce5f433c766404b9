"""Find the annotation of each frame of the folder."""

from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import Annotation, FrameId
from training.data.sources.folder.cine_masks import split_cine_masks
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.dicom_files import sort_dicoms
from training.data.sources.folder.dicom_segmentation_matching import read_segmentations
from training.data.sources.folder.file_names import frame_key
from training.data.sources.folder.json_annotations import read_json_annotations
from training.data.sources.folder.mask_images import draw_mask
from training.data.sources.folder.sorted_files import sort_files
from training.data.sources.folder_or_zip import SourceFiles
from training.data.sources.frame_mask_pairing import frame_without_mask, index_by_key, mask_without_frame


class AnnotatedFiles(NamedTuple):
    """annotations: sorted by frame, with one for each frame. pictures, videos: all files of these kinds."""

    annotations: list[Annotation]
    pictures: set[str]
    videos: set[str]


def find_annotations(files: SourceFiles, classes: ClassMap, log: IngestLog) -> AnnotatedFiles:
    """Return the annotations of all frames.

    Report frames without an annotation or with two, and annotations without a frame. Raises ParameterError for an
    unknown class of a DICOM Segmentation.
    """
    found = sort_files(files, log)
    images, segmentations = sort_dicoms(files, found.dicoms, log)
    cines = [*found.videos, *(image.file for image in images if image.frame_count > 1)]
    single = [*found.pictures, *(image.file for image in images if image.frame_count == 1)]
    keys = [(frame_key(PurePosixPath(file)), file) for file in single]
    frames = index_by_key(keys, log, "has the same name as another file")
    used = {*frames.values(), *cines}
    images = [image for image in images if image.file in used]
    annotations = [
        *_find_masks(files, found.masks, cines, frames, classes, log),
        *read_segmentations(files, images, segmentations, classes, log),
    ]
    refused = set()
    for file in found.json:
        read = read_json_annotations(files, file, frames, classes, log)
        annotations += read or []
        if read is None:
            refused.add(frames.get(frame_key(PurePosixPath(file))))
    for file in sorted(used - {annotation.frame.file for annotation in annotations} - refused):
        log.report_error(_without_annotation(file, file in found.dicoms, file in found.videos))
    return AnnotatedFiles(_keep_single(annotations, log), set(found.pictures), set(found.videos))


def _find_masks(
    files: SourceFiles, masks: list[str], cines: list[str], frames: dict[str, str], classes: ClassMap, log: IngestLog
) -> list[Annotation]:
    """Return the mask pictures as annotations. Report those without a frame. frames: frame files by `frame_key`."""
    of_frames, others = split_cine_masks(cines, masks, log)
    for mask in others:
        if frame := frames.get(frame_key(PurePosixPath(mask))):
            of_frames.append((FrameId(frame), mask))
        else:
            log.report_error(mask_without_frame(mask))
    return [Annotation(frame, mask, None, partial(draw_mask, files, mask, classes)) for frame, mask in of_frames]


def _without_annotation(file: str, is_dicom: bool, is_video: bool) -> SourceError:
    if is_video:
        remedy = "Add masks/NAME/NAME_000.png, or remove the video."
        return SourceError(file, "is a video without masks", remedy)
    if is_dicom:
        remedy = "Add the DICOM Segmentation that refers to it, or remove the image."
        return SourceError(file, "is a DICOM image without a segmentation or a mask", remedy)
    return frame_without_mask(file)


def _keep_single(annotations: list[Annotation], log: IngestLog) -> list[Annotation]:
    """Return the annotations of frames with a single one, sorted by frame. Report the others."""
    names = [(annotation.frame, annotation.name) for annotation in annotations]
    single = index_by_key(names, log, "annotates the same frame as another file")
    return sorted((item for item in annotations if item.frame in single), key=lambda item: item.frame)
