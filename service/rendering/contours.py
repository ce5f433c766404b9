"""A mask as contours and as GeoJSON polygons. Each describes exactly the pixels of the mask."""

from typing import Any

import cv2
import numpy as np

from service.rendering.run_lengths import find_runs


def find_contours(mask: np.ndarray) -> list[list[list[int]]]:
    """Return closed polygons of [x, y] through the centres of the outermost pixels; the last point repeats the first.

    mask: uint8 (height, width), 0 or 255. Each outline is followed by its holes. The polygon of a hole runs through the
    nerve pixels around it. `cv2.fillPoly` of all contours at once gives the mask back: it fills by the even-odd rule
    and draws the edges.
    """
    polygons, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    parents = hierarchy[0, :, 3]  # -1 for an outline
    outlines = np.flatnonzero(parents < 0)
    order = [i for outline in outlines for i in (outline, *np.flatnonzero(parents == outline))]
    return [[*points, points[0]] for points in (polygons[i][:, 0, :].tolist() for i in order)]


def to_geojson_geometry(mask: np.ndarray) -> dict[str, Any] | None:
    """Return the mask as a GeoJSON geometry along the edges of its pixels, so that its area is the number of pixels.

    mask: uint8 (height, width), 0 or 255. The pixel in column x and row y covers x to x + 1 and y to y + 1. Outlines
    run counter-clockwise, holes clockwise (RFC 7946 3.1.6). None for an empty mask.
    """
    import shapely  # loads for 0.2 s, which only GeoJSON needs

    padded = np.vstack([mask, np.zeros_like(mask[:1])])  # ends every run at the foot of its column
    column_length = padded.shape[0]
    starts, ends = find_runs(padded)
    if not starts.size:
        return None
    columns, tops = starts // column_length, starts % column_length
    bottoms = tops + ends - starts
    union = shapely.union_all(shapely.box(columns, tops, columns + 1, bottoms))
    polygons = shapely.orient_polygons(shapely.simplify(union, 0))  # drops points on straight edges
    geometry: dict[str, Any] = shapely.geometry.mapping(polygons)
    return geometry
