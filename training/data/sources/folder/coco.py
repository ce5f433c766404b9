"""COCO annotations: one JSON file with the polygons and masks of many frames."""

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from training.data.source_errors import SourceError
from training.data.sources.folder.file_names import end_alike, frame_key
from training.data.sources.folder.shape_rasterization import Shape, Shapes

SECTIONS = ("images", "annotations", "categories")


def is_coco(content: Any) -> bool:
    """Return whether the content of a JSON file is COCO."""
    return isinstance(content, dict) and all(isinstance(content.get(name), list) for name in SECTIONS)


def read_coco(content: dict[str, Any], file: str) -> list[tuple[str, Shapes]]:
    """Return each frame's file name, as the COCO file has it, and its shapes. A frame without any has an empty list.

    content: see `is_coco`. Raises SourceError for a COCO file that is not complete.
    """
    try:
        return _convert(content, file)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"is a COCO file with a missing or invalid entry ({error!r})"
        raise SourceError(file, reason, "Export it again.") from error


def _convert(content: dict[str, Any], file: str) -> list[tuple[str, Shapes]]:
    classes = {category["id"]: category["name"] for category in content["categories"]}
    image_ids = {image["id"] for image in content["images"]}
    if len(image_ids) < len(content["images"]):
        raise ValueError("two images have the same id")
    shapes: dict[Any, list[Shape]] = defaultdict(list)
    for annotation in content["annotations"]:
        if annotation["image_id"] not in image_ids:
            raise ValueError(f"annotation {annotation.get('id')} is of an image that is not in `images`")
        shapes[annotation["image_id"]] += _shapes(annotation, classes[annotation["category_id"]])
    return [
        (image["file_name"].replace("\\", "/"), Shapes(file, shapes[image["id"]], image["height"], image["width"]))
        for image in content["images"]
    ]


def _shapes(annotation: dict[str, Any], class_name: str) -> list[Shape]:
    """Return a shape for each polygon of an annotation, or one for its run-lengths (with `iscrowd`, or compressed).

    An annotation that is only a box becomes a polygon without points: it cannot be drawn, unless its class is ignored.
    """
    segmentation = annotation.get("segmentation") or [[]]
    if isinstance(segmentation, dict):
        return [{"label": class_name, "shape_type": "rle", **{name: segmentation[name] for name in ("counts", "size")}}]
    return [
        {"label": class_name, "points": list(zip(numbers[::2], numbers[1::2], strict=True))} for numbers in segmentation
    ]


class FrameFinder:
    """Finds the frame files that a COCO file names."""

    def __init__(self, file: str, frames: dict[str, str]):
        """file: the COCO file. frames: frame files by `frame_key`."""
        self.file = file
        self.frames = frames
        self.keys_by_stem: dict[str, list[str]] = defaultdict(list)
        for key in frames:
            self.keys_by_stem[key.rpartition("/")[2]].append(key)

    def find(self, name: str) -> str:
        """Return the file of a frame. A frame in the folder of the COCO file comes first.

        name: `file_name` of the COCO file. Folders at its start may be missing or those of another machine.

        Raises SourceError if no frame fits, or several.
        """
        beside = frame_key(PurePosixPath(self.file).parent / name)
        if beside in self.frames:
            return self.frames[beside]
        key = frame_key(PurePosixPath(name))
        fitting = [other for other in self.keys_by_stem[key.rpartition("/")[2]] if end_alike(key, other)]
        if not fitting:
            reason = "is a frame that the folder does not have"
            raise SourceError(f"{self.file}: {name}", reason, "Add the frame, or correct its `file_name`.")
        if len(fitting) > 1:
            reason = f"can be {' or '.join(self.frames[other] for other in fitting)}"
            raise SourceError(f"{self.file}: {name}", reason, "Write the folder into `file_name`.")
        return self.frames[fitting[0]]
