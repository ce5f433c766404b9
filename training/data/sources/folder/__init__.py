"""Your own frames, as people keep them: a folder of pictures with masks or LabelMe annotations.

Every picture below the folder or in the zip file is a frame, a mask, or an error. The masks of a frame NAME.png are, in
this order:
  NAME.json              LabelMe annotations, beside the frame or in another folder; the classes are their labels
  NAME_mask.png          a mask beside the frame; the classes are its grey values or colours
  masks/NAME.png         a mask in a folder whose name is one of MASK_FOLDERS
`videos` reads videos with a folder of masks each.

`nerve.classes` says which classes are nerve, vessel or ignored. `subjects` finds the subject of each frame.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from training.data.frame_mask_pair import VESSEL, FrameMaskPair, check_orientation, check_size, decode_frame
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.labelme import class_names, draw_labels, read_annotations
from training.data.sources.folder.mask_images import decode_mask
from training.data.sources.folder.subjects import SUBJECTS_FILE, find_keys
from training.data.sources.folder.videos import read_video_pairs, split_video_masks
from training.data.sources.folder_or_zip import PICTURE_SUFFIXES, SourceFiles
from training.data.sources.frame_mask_pairing import FrameKey
from training.workspace.params_file import ParameterError

MASK_FOLDERS = ("mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations")
MASK_SUFFIXES = ("_mask", "_label", "_seg")
ANNOTATION_SUFFIX = ".json"


class AnnotatedFrame(NamedTuple):
    """A frame file and the file of its annotations or its mask."""

    frame: str
    annotation: str


def pairs(path: Path | None, log: IngestLog, classes: Mapping[str, str]) -> Iterator[FrameMaskPair]:
    """Yield the pairs of a folder or a zip file.

    path: `nerve.path`.
    log: takes the errors of single files.
    classes: `nerve.classes`.

    Raises ParameterError without a path or with a class that is not in `classes`, and SourceError for an error of the
    whole data set.
    """
    if path is None:
        raise ParameterError("params.yaml: nerve.path is empty. Set it to the folder or zip file with the frames.")
    return _pairs(SourceFiles(path), log, ClassMap(classes))


def _pairs(files: SourceFiles, log: IngestLog, classes: ClassMap) -> Iterator[FrameMaskPair]:
    videos, names = split_video_masks(files.names)
    annotated = _match_annotations(names, log)
    if not annotated and not videos:
        raise SourceError(
            str(files.path), "has no frame with a mask or annotations", "Set nerve.path to such a folder."
        )
    for video, masks in videos.items():
        try:
            yield from read_video_pairs(files, video, masks, classes, log)
        except SourceError as error:
            log.report_error(error)
    keys = find_keys(files, [frame.frame for frame in annotated])
    vessels = _have_vessels(files, annotated, classes)
    for item in annotated:
        if pair := log.attempt(partial(_read_pair, files, item, keys[item.frame], classes, vessels)):
            yield pair


def _match_annotations(names: list[str], log: IngestLog) -> list[AnnotatedFrame]:
    """Return each frame with its annotations. Report frames without annotations, and annotations without a frame."""
    frames: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for file in names:
        path = PurePosixPath(file)
        stem = path.stem
        if path.suffix.lower() == ANNOTATION_SUFFIX:
            annotations[stem] = file
        elif path.suffix.lower() not in PICTURE_SUFFIXES:
            if path.name != SUBJECTS_FILE:
                log.leave_out(file, "is neither a picture nor annotations")
        elif suffix := next((suffix for suffix in MASK_SUFFIXES if stem.lower().endswith(suffix)), None):
            annotations[stem[: -len(suffix)]] = file
        elif path.parent.name.lower() in MASK_FOLDERS:
            annotations[stem] = file
        elif stem in frames:
            reason = f"has the same name as another frame ({frames[stem]})"
            log.report_error(SourceError(file, reason, "Give each frame a name of its own."))
        else:
            frames[stem] = file
    for stem in sorted(frames.keys() - annotations.keys()):
        log.report_error(SourceError(frames[stem], "is a frame without a mask", "Add its mask, or remove the frame."))
    for stem in sorted(annotations.keys() - frames.keys()):
        error = SourceError(annotations[stem], "is a mask without a frame", "Add its frame, or remove the mask.")
        log.report_error(error)
    return [AnnotatedFrame(frames[stem], annotations[stem]) for stem in frames if stem in annotations]


def _have_vessels(files: SourceFiles, annotated: list[AnnotatedFrame], classes: ClassMap) -> bool:
    """Return whether vessels are labelled in this data set. A frame without a vessel then shows that there is none.

    Prints the number of shapes and of frames of each class. Raises ParameterError for an unknown class.
    """
    shapes: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    with_names = [item for item in annotated if item.annotation.endswith(ANNOTATION_SUFFIX)]
    for item in with_names:
        try:
            names = class_names(read_annotations(files.read(item.annotation), item.annotation))
        except SourceError:  # `_read_pair` reports it
            continue
        for name in names:
            classes.label(name, item.annotation)
        shapes.update(names)
        frames.update(set(names))
    for name, count in shapes.most_common():
        print(f"class {name}: {count} shapes in {frames[name]} frames")
    has_masks = len(with_names) < len(annotated)
    return any(classes.labels[name.strip().lower()] == VESSEL for name in shapes) or (
        has_masks and VESSEL in classes.pixel_labels()
    )


def _read_pair(
    files: SourceFiles, item: AnnotatedFrame, key: FrameKey, classes: ClassMap, vessels: bool
) -> FrameMaskPair:
    data, annotation = files.read(item.frame), files.read(item.annotation)
    frame = decode_frame(data, item.frame)
    labels: np.ndarray
    if item.annotation.endswith(ANNOTATION_SUFFIX):
        annotations = read_annotations(annotation, item.annotation)
        labels = draw_labels(annotations, frame.pixels.shape, classes, item.annotation)
    else:
        check_orientation(data, annotation, item.annotation)
        labels = decode_mask(annotation, classes, item.annotation)
    check_size(labels, frame.pixels, item.annotation, "Copy both again, or remove the pair.")
    return FrameMaskPair(
        frame_file=data,
        suffix=PurePosixPath(item.frame).suffix.lower(),
        labels=labels,
        subject=key.subject,
        number=key.number,
        vessels=vessels,
        source_name=item.frame,
    )
