"""LabelMe annotations: polygons, rectangles and circles with a class each, in a JSON file for each frame."""

import json
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training.data.frame_mask_pair import NERVE
from training.data.source_errors import SourceError
from training.data.sources.folder.classes import BACKGROUND, ClassMap

ENCODINGS = ("utf-8-sig", "gb18030")  # tried in this order; the second is China's
MIN_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2}

Annotations = dict[str, Any]


def load_json(data: bytes) -> Any:
    """Return the content of a JSON file in one of ENCODINGS; None if it is no JSON."""
    for encoding in ENCODINGS:
        try:
            return json.loads(data.decode(encoding))
        except ValueError:  # UnicodeDecodeError is one too
            continue
    return None


def read_annotations(data: bytes, file: str) -> Annotations:
    """Return the content of a LabelMe file. Raises SourceError if it is none."""
    content = load_json(data)
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        return content
    remedy = "Save it again with LabelMe, or remove the pair."
    raise SourceError(file, "is not a LabelMe file (JSON with a list `shapes`)", remedy)


def class_names(annotations: Annotations) -> list[str]:
    """Return the class of each shape."""
    return [str(shape.get("label", "")) for shape in annotations["shapes"]]


def draw_labels(annotations: Annotations, size: tuple[int, ...], classes: ClassMap, file: str) -> np.ndarray:
    """Return the labels of all shapes: uint8 (height, width), 0 background, 1 nerve, 2 vessel.

    Pixels on an outline belong to the shape, as in LabelMe's own masks. Where shapes overlap, nerve wins.

    annotations: of `read_annotations`.
    size: height and width of the frame.
    classes: the label of each class.
    file: for messages.

    Raises SourceError for a shape that cannot be drawn or annotations of another size, and ParameterError for an
    unknown class.
    """
    height, width = size
    declared = annotations.get("imageHeight") or height, annotations.get("imageWidth") or width
    if declared != (height, width):
        reason = f"is for {declared[1]}x{declared[0]} pixels, but its frame has {width}x{height}"
        raise SourceError(file, reason, "Copy both again, or remove the pair.")
    image = Image.new("L", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    labelled = [(classes.label(str(shape.get("label", "")), file), shape) for shape in annotations["shapes"]]
    for label, shape in sorted(labelled, key=lambda item: item[0] == NERVE):
        if label != BACKGROUND:
            _draw_shape(draw, shape, label, file)
    return np.array(image)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: dict[str, Any], label: int, file: str) -> None:
    kind = shape.get("shape_type") or "polygon"
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(file, f"has a shape with invalid points ({error})", "Correct it in LabelMe.") from error
    if kind not in MIN_POINTS or len(points) < MIN_POINTS[kind]:
        reason = f"has a shape {kind} of {len(points)} points, which is no area"
        raise SourceError(file, reason, "Draw it as a polygon in LabelMe.")
    if kind == "polygon":
        draw.polygon(points, fill=label, outline=label)
    elif kind == "rectangle":
        (left, right), (top, bottom) = (sorted(values) for values in zip(*points[:2], strict=True))
        draw.rectangle((left, top, right, bottom), fill=label, outline=label)
    else:
        (x, y), edge = points[:2]
        radius = math.hypot(edge[0] - x, edge[1] - y)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=label, outline=label)
