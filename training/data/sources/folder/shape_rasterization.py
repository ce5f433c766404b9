"""Draw the shapes of an annotation: polygons, rectangles, circles and masks with a class each.

The shapes are those of LabelMe. COCO annotations become such shapes; `rle` is COCO's alone.
"""

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from training.data.frame_mask_pair import NERVE
from training.data.source_errors import SourceError
from training.data.sources.folder.annotation import SourceFrame
from training.data.sources.folder.classes import BACKGROUND, ClassMap
from training.data.sources.folder.run_lengths import decode_run_lengths

MIN_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2}

Shape = dict[str, Any]


class Shapes(NamedTuple):
    """The shapes of one frame.

    file: for messages.
    shapes: with `label` and `shape_type` (polygon if it is missing). polygon, rectangle and circle have `points`; mask
        has a PNG as base64 in `mask`, and its left upper corner as the first of `points`; rle has `counts` and `size`.
    height, width: of the frame that they were drawn on. None: unknown.
    """

    file: str
    shapes: list[Shape]
    height: int | None
    width: int | None

    @property
    def class_names(self) -> list[str]:
        """The class of each shape."""
        return [str(shape.get("label", "")) for shape in self.shapes]


def draw_labels(annotation: Shapes, classes: ClassMap, frame: SourceFrame) -> np.ndarray:
    """Return the labels of all shapes: uint8 (height, width), 0 background, 1 nerve, 2 vessel.

    Pixels on an outline belong to the shape, as in LabelMe's own masks. Where shapes overlap, nerve wins.

    Raises SourceError for a shape that cannot be drawn or shapes for another size, and ParameterError for an unknown
    class.
    """
    height, width = frame.size
    declared = annotation.height or height, annotation.width or width
    if declared != (height, width):
        reason = f"is for {declared[1]}x{declared[0]} pixels, but its frame has {width}x{height}"
        raise SourceError(annotation.file, reason, "Copy both again, or remove the pair.")
    image = Image.new("L", (width, height), BACKGROUND)
    labels = [classes.label(name, annotation.file) for name in annotation.class_names]
    for label, shape in sorted(zip(labels, annotation.shapes, strict=True), key=lambda item: item[0] == NERVE):
        if label == BACKGROUND:
            continue
        try:
            _draw_shape(image, shape, label, annotation.file)
        except (KeyError, TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
            reason = f"has a shape of class {shape.get('label')} that is not valid ({error})"
            raise SourceError(annotation.file, reason, "Draw it again, or remove it.") from error
    return np.array(image)


def _draw_shape(image: Image.Image, shape: Shape, label: int, file: str) -> None:
    kind = shape.get("shape_type") or "polygon"
    draw = ImageDraw.Draw(image)
    if kind == "mask":
        left, top = (int(value) for value in shape["points"][0])
        mask = Image.open(io.BytesIO(base64.b64decode(shape["mask"]))).convert("L")
        draw.bitmap((left, top), mask.point(lambda value: 255 * (value > 0)), fill=label)
        return
    if kind == "rle":
        height, width = shape["size"]
        if (width, height) != image.size:
            raise ValueError(f"its mask has {width}x{height} pixels")
        draw.bitmap((0, 0), Image.fromarray(decode_run_lengths(shape["counts"], height, width)), fill=label)
        return
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("a point is not finite")
    if len(points) < MIN_POINTS.get(kind, math.inf):
        reason = f"has a shape {kind} of {len(points)} points, which is no area"
        raise SourceError(file, reason, "Draw it as a polygon.")
    if kind == "polygon":
        draw.polygon(points, fill=label, outline=label)
    elif kind == "rectangle":
        (left, right), (top, bottom) = (sorted(values) for values in zip(*points[:2], strict=True))
        draw.rectangle((left, top, right, bottom), fill=label, outline=label)
    else:
        (x, y), edge = points[:2]
        radius = math.hypot(edge[0] - x, edge[1] - y)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=label, outline=label)
