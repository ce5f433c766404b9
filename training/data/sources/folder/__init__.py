"""Your own frames, as people keep them: a folder of pictures with masks or LabelMe annotations.

Every picture below the folder or in the zip file is a frame, a mask, or an error. The masks of a frame NAME.png are, in
this order:
  NAME.json              LabelMe annotations, beside the frame or in another folder; the classes are their labels
  any other .json        COCO annotations of many frames; the classes are its categories
  NAME_mask.png          a mask beside the frame; the classes are its grey values or colours
  masks/NAME.png         a mask in a folder whose name is one of `names.MASK_FOLDERS`
`videos` reads videos with a folder of masks each.

`nerve.classes` says which classes are nerve, vessel or ignored. `subjects` finds the subject of each frame.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from training.data.frame_mask_pair import VESSEL, FrameMaskPair, check_orientation, check_size, decode_frame
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.coco import read_coco
from training.data.sources.folder.labelme import Annotations, class_names, draw_labels, read_annotations
from training.data.sources.folder.mask_images import decode_mask
from training.data.sources.folder.names import frame_key, is_mask
from training.data.sources.folder.subjects import SUBJECTS_FILE, find_keys
from training.data.sources.folder.videos import read_video_pairs, split_video_masks
from training.data.sources.folder_or_zip import PICTURE_SUFFIXES, SourceFiles
from training.data.sources.frame_mask_pairing import FrameKey
from training.workspace.params_file import ParameterError

ANNOTATION_SUFFIX = ".json"


class AnnotatedFrame(NamedTuple):
    """A frame file and the file of its annotations or its mask.

    shapes: the annotations; None for a mask.
    """

    frame: str
    annotation: str
    shapes: Annotations | None


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
    annotated = _open_annotations(files, *_sort_files(names, log), log)
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
    vessels = _have_vessels(annotated, classes)
    for item in annotated:
        if pair := log.attempt(partial(_read_pair, files, item, keys[item.frame], classes, vessels)):
            yield pair


def _sort_files(names: list[str], log: IngestLog) -> tuple[dict[str, str], dict[str, str]]:
    """Return the frames, and the files of annotations or masks, by `frame_key`. Report files with the same key."""
    frames: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for file in names:
        path = PurePosixPath(file)
        files = annotations
        if path.suffix.lower() not in (*PICTURE_SUFFIXES, ANNOTATION_SUFFIX):
            if path.name != SUBJECTS_FILE:
                log.leave_out(file, "is neither a picture nor annotations")
            continue
        if path.suffix.lower() != ANNOTATION_SUFFIX and not is_mask(path):
            files = frames
        if frame_key(path) in files:
            reason = f"has the same name as another file ({files[frame_key(path)]})"
            log.report_error(SourceError(file, reason, "Remove one of them, or give each a name of its own."))
        else:
            files[frame_key(path)] = file
    return frames, annotations


def _open_annotations(
    files: SourceFiles, frames: dict[str, str], annotations: dict[str, str], log: IngestLog
) -> list[AnnotatedFrame]:
    """Return each frame with its annotations. Report frames without annotations, and annotations without a frame."""
    opened: dict[str, AnnotatedFrame] = {}
    for key, file in annotations.items():
        if file.endswith(ANNOTATION_SUFFIX) and key not in frames:
            opened |= _open_coco(files, frames, file, log)
        elif key not in frames:
            log.report_error(SourceError(file, "is a mask without a frame", "Add its frame, or remove the mask."))
        elif not file.endswith(ANNOTATION_SUFFIX):
            opened[key] = AnnotatedFrame(frames[key], file, None)
        elif (shapes := log.attempt(partial(read_annotations, files.read(file), file))) is not None:
            opened[key] = AnnotatedFrame(frames[key], file, shapes)
    for key in sorted(frames.keys() - opened.keys() - annotations.keys()):
        log.report_error(SourceError(frames[key], "is a frame without a mask", "Add its mask, or remove the frame."))
    return [opened[key] for key in frames if key in opened]


def _open_coco(files: SourceFiles, frames: dict[str, str], file: str, log: IngestLog) -> dict[str, AnnotatedFrame]:
    """Return the frames that a COCO file annotates, by `frame_key`. Report a file that is none, and missing frames."""
    coco = log.attempt(partial(read_coco, files.read(file), file))
    if coco is None:
        reason = "is neither the annotations of a frame nor a COCO file"
        log.report_error(SourceError(file, reason, "Add its frame, or remove the file."))
        return {}
    key_by_stem = {PurePosixPath(frame).stem: key for key, frame in frames.items()}
    for stem in sorted(coco.keys() - key_by_stem.keys()):
        log.report_error(SourceError(f"{file}: {stem}", "is a frame that the folder does not have", "Add the frame."))
    return {
        key_by_stem[stem]: AnnotatedFrame(frames[key_by_stem[stem]], file, shapes)
        for stem, shapes in coco.items()
        if stem in key_by_stem
    }


def _have_vessels(annotated: list[AnnotatedFrame], classes: ClassMap) -> bool:
    """Return whether vessels are labelled in this data set. A frame without a vessel then shows that there is none.

    Prints the number of shapes and of frames of each class. Raises ParameterError for an unknown class.
    """
    shapes: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for item in annotated:
        names = class_names(item.shapes) if item.shapes else []
        for name in names:
            classes.label(name, item.annotation)
        shapes.update(names)
        frames.update(set(names))
    for name, count in shapes.most_common():
        print(f"class {name}: {count} shapes in {frames[name]} frames")
    has_masks = any(item.shapes is None for item in annotated)
    return any(classes.labels[name.strip().lower()] == VESSEL for name in shapes) or (
        has_masks and VESSEL in classes.pixel_labels()
    )


def _read_pair(
    files: SourceFiles, item: AnnotatedFrame, key: FrameKey, classes: ClassMap, vessels: bool
) -> FrameMaskPair:
    data = files.read(item.frame)
    frame = decode_frame(data, item.frame)
    if item.shapes is not None:
        labels = draw_labels(item.shapes, frame.pixels.shape, classes, item.annotation)
    else:
        mask = files.read(item.annotation)
        check_orientation(data, mask, item.annotation)
        labels = decode_mask(mask, classes, item.annotation)
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
