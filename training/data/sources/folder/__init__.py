"""Your own frames, as people keep them: pictures, videos and DICOM ultrasound, with masks or annotations.

Every picture, video and DICOM file below the folder or in the zip file is a frame, a mask, or an error. The masks of a
frame NAME.png are one of these; two are an error:
  NAME.json              LabelMe annotations, beside the frame or in another folder; the classes are their labels
  any .json              COCO annotations of many frames; the classes are its categories
  NAME_mask.png          a mask beside the frame; the classes are its grey values or colours
  masks/NAME.png         a mask in a folder whose name is one of `names.MASK_FOLDERS`
  any DICOM              a DICOM Segmentation that refers to the frame's DICOM file; the classes are its segments
A video or a DICOM cine has a folder of masks (`cine_masks`), or DICOM Segmentations.

`nerve.classes` says which classes are nerve, vessel or ignored. `subjects` finds the subject of each frame.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import cv2

from training.data.frame_mask_pair import VESSEL, FrameMaskPair, check_size
from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import Annotation, FrameId
from training.data.sources.folder.annotation_search import find_annotations
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.frame_file import FrameFile, crop_to_scan_area, square_spacing_mm
from training.data.sources.folder.subjects import find_keys
from training.data.sources.folder_or_zip import SourceFiles
from training.data.sources.frame_mask_pairing import COPY_AGAIN, FrameKey
from training.workspace.parameter_validation import ParameterError


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
    annotations, pictures, videos = find_annotations(files, classes, log)
    if not annotations:
        reason = "has no frame with a mask or annotations"
        raise SourceError(str(files.path), reason, "Set nerve.path to such a folder.")
    keys = find_keys(files, [annotation.frame for annotation in annotations], videos)
    vessels = _have_vessels(annotations, classes)
    for file, of_file in groupby(annotations, lambda annotation: annotation.frame.file):
        frame_file = log.attempt(partial(FrameFile, files, file, file in pictures))
        if frame_file is None:
            continue
        annotated = list(of_file)
        for index in sorted(set(range(frame_file.frame_count)) - {item.frame.cine_index or 0 for item in annotated}):
            log.leave_out(str(FrameId(file, index)), "is a frame of a cine without a mask")
        for annotation in annotated:
            read = partial(_read_pair, frame_file, annotation, keys[annotation.frame], vessels)
            if pair := log.attempt(read):
                yield pair


def _have_vessels(annotations: list[Annotation], classes: ClassMap) -> bool:
    """Return whether vessels are labelled in this data set. A frame without a vessel then shows that there is none.

    Prints the number of shapes and of frames of each class. Raises ParameterError for an unknown class.
    """
    shapes: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    labels = set()
    for annotation in annotations:
        names = annotation.class_names
        labels |= classes.pixel_labels() if names is None else {classes.label(name, annotation.name) for name in names}
        shapes.update(names or [])
        frames.update(set(names or []))
    for name, count in shapes.most_common():
        print(f"class {name}: {count} shapes in {frames[name]} frames")
    return VESSEL in labels


def _read_pair(frame_file: FrameFile, annotation: Annotation, key: FrameKey, vessels: bool) -> FrameMaskPair:
    frame = frame_file.read(annotation)
    labels = annotation.draw(frame)
    check_size(labels, frame.decoded.pixels, annotation.name, COPY_AGAIN)
    file, suffix = frame.picture, PurePosixPath(annotation.frame.file).suffix.lower()
    if not file:
        labels = crop_to_scan_area(labels, frame.decoded, annotation.name)
        file, suffix = cv2.imencode(".png", frame.decoded.scan_pixels)[1].tobytes(), ".png"
    return FrameMaskPair(
        frame_file=file,
        suffix=suffix,
        labels=labels,
        subject=key.subject,
        number=key.number,
        spacing_mm=square_spacing_mm(frame.decoded),
        vessels=vessels,
        source_name=str(annotation.frame),
    )
