"""A mask in other shapes: run-lengths, contours, polygons. Each describes exactly the mask's pixels."""

from typing import Any

import cv2
import numpy as np


def run_lengths(mask: np.ndarray) -> str:
    """Kaggle's encoding: pairs of 1-based start and length, pixels counted down the columns, left to right.

    mask: uint8 (height, width), 0 or 255. An empty mask gives an empty string.
    """
    starts, ends = _runs(mask)
    return " ".join(map(str, np.column_stack([starts + 1, ends - starts]).ravel().tolist()))


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of nerve start and where they have ended, pixels counted down the columns from 0."""
    left, _, width, _ = cv2.boundingRect(mask)  # nothing starts or ends outside
    pixels = np.concatenate([[False], mask[:, left : left + width].T.ravel() > 0, [False]])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + left * mask.shape[0]
    return edges[::2], edges[1::2]


def contours(mask: np.ndarray) -> list[list[list[int]]]:
    """Closed polygons of [x, y], each ending where it begins, through the centres of the outermost pixels.

    mask: uint8 (height, width), 0 or 255. A hole follows its outline, along the pixels that surround it:
    `cv2.fillPoly` of all contours at once, which fills by the even-odd rule and draws the edges, gives the mask back.
    """
    found, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    outlines = [i for i in range(len(found)) if hierarchy[0][i][3] < 0]
    holes = {outline: [i for i in range(len(found)) if hierarchy[0][i][3] == outline] for outline in outlines}
    order = [i for outline in outlines for i in (outline, *holes[outline])]
    return [[*points, points[0]] for points in (found[i][:, 0, :].tolist() for i in order)]


def polygons(mask: np.ndarray) -> dict[str, Any] | None:
    """The mask as a GeoJSON geometry along the pixels' edges, so that its area is the number of pixels.

    mask: uint8 (height, width), 0 or 255. The pixel in column x and row y covers x to x + 1 and y to y + 1.
    None for an empty mask.
    """
    import shapely  # two tenths of a second, for those who ask for GeoJSON

    height = mask.shape[0]
    padded = np.vstack([mask, np.zeros_like(mask[:1])])  # no run goes on into the next column
    starts, ends = _runs(padded)
    if not starts.size:
        return None
    column, top, bottom = starts // (height + 1), starts % (height + 1), ends - starts + starts % (height + 1)
    joined = shapely.union_all(shapely.box(column, top, column + 1, bottom))
    simple = shapely.orient_polygons(shapely.simplify(joined, 0))  # points on straight edges taken out
    geometry: dict[str, Any] = shapely.geometry.mapping(simple)
    return geometry
