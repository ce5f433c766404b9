"""COCO annotations: one JSON file with the polygons of many frames. They become LabelMe annotations of each frame."""

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from training.data.source_errors import SourceError
from training.data.sources.folder.labelme import Annotations, load_json

SECTIONS = ("images", "annotations", "categories")


def read_coco(data: bytes, file: str) -> dict[str, Annotations] | None:
    """Return the LabelMe annotations of each frame, by the frame's name without folder and suffix.

    None if the file is not COCO. A frame without annotations has an empty list of shapes.

    Raises SourceError for a COCO file that is not complete, and for run lengths in place of polygons.
    """
    content = load_json(data)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in SECTIONS):
        return None
    try:
        return _convert(content, file)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"is a COCO file with a missing or invalid entry ({error!r})"
        raise SourceError(file, reason, "Export it again.") from error


def _convert(content: dict[str, Any], file: str) -> dict[str, Annotations]:
    classes = {category["id"]: category["name"] for category in content["categories"]}
    shapes: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        if not isinstance(annotation["segmentation"], list):
            reason = f"has run lengths in annotation {annotation.get('id')}, which are not read"
            raise SourceError(file, reason, "Export it with polygons, or write masks as PNG.")
        for numbers in annotation["segmentation"]:
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            shapes[annotation["image_id"]].append({"label": classes[annotation["category_id"]], "points": points})
    return {
        PurePosixPath(image["file_name"].replace("\\", "/")).stem: {
            "imageHeight": image["height"],
            "imageWidth": image["width"],
            "shapes": shapes[image["id"]],
        }
        for image in content["images"]
    }
