"""Read a LabelMe file: the shapes of one frame."""

from typing import Any

from training.data.source_errors import SourceError
from training.data.sources.folder.shape_rasterization import Shapes


def read_labelme(content: Any, file: str) -> Shapes:
    """Return the shapes of a LabelMe file. Raises SourceError if it is none."""
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        remedy = "Save it again with LabelMe, or remove the pair."
        raise SourceError(file, "is not a LabelMe file (JSON with a list `shapes`)", remedy)
    return Shapes(file, shapes, content.get("imageHeight"), content.get("imageWidth"))
