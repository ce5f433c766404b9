"""Read JSON files with annotations: LabelMe for one frame, or COCO for many."""

import json
from functools import partial
from pathlib import PurePosixPath

from training.data.source_errors import IngestLog, SourceError
from training.data.sources.folder.annotation import Annotation, FrameId
from training.data.sources.folder.classes import ClassMap
from training.data.sources.folder.coco import FrameFinder, is_coco, read_coco
from training.data.sources.folder.file_names import frame_key
from training.data.sources.folder.labelme import read_labelme
from training.data.sources.folder.shape_rasterization import Shapes, draw_labels
from training.data.sources.folder.text_encoding import decode_text
from training.data.sources.folder_or_zip import SourceFiles


def read_json_annotations(
    files: SourceFiles, file: str, frames: dict[str, str], classes: ClassMap, log: IngestLog
) -> list[Annotation] | None:
    """Return the annotations in a JSON file. Report each frame of a COCO file that the folder does not have.

    frames: frame files by `frame_key`.

    None, after a report, for a file that holds no annotations or is not complete.
    """
    own_frame = frames.get(frame_key(PurePosixPath(file)))
    content = log.attempt(partial(_read_content, files, file, own_frame))
    if content is None:
        return None
    if isinstance(content, Shapes):
        assert own_frame is not None  # _read_content reports LabelMe files without a frame
        return [_annotation(own_frame, file, content, classes)]
    finder = FrameFinder(file, frames)
    found = [(log.attempt(partial(finder.find, name)), name, shapes) for name, shapes in content]
    return [_annotation(frame, f"{file}: {name}", shapes, classes) for frame, name, shapes in found if frame]


def _annotation(frame: str, name: str, shapes: Shapes, classes: ClassMap) -> Annotation:
    return Annotation(FrameId(frame), name, shapes.class_names, partial(draw_labels, shapes, classes))


def _read_content(files: SourceFiles, file: str, own_frame: str | None) -> Shapes | list[tuple[str, Shapes]]:
    """Return the shapes of a LabelMe file, or the shapes of each frame of a COCO file, with the frame's name.

    own_frame: the frame of the file's name. Raises SourceError for another file, and for a LabelMe file without a
    frame.
    """
    try:
        content = json.loads(decode_text(files.read(file)))
    except ValueError:
        content = None
    if is_coco(content):
        return read_coco(content, file)
    if own_frame is None:
        reason = "is neither the annotations of a frame nor a COCO file"
        raise SourceError(file, reason, "Add its frame, or remove the file.")
    return read_labelme(content, file)
