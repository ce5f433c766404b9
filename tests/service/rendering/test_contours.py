"""Contours and GeoJSON polygons hold exactly the mask."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from shapely.geometry import shape

from service.rendering.contours import find_contours, to_geojson_geometry
from tests.service.rendering.masks import MASKS


@pytest.mark.slow
@given(MASKS)
@settings(max_examples=300, deadline=None)
def test_contours_filled_by_the_even_odd_rule_give_the_mask(mask: np.ndarray) -> None:
    filled = np.zeros_like(mask)
    cv2.fillPoly(filled, [np.array(polygon, np.int32) for polygon in find_contours(mask)], 255)
    assert np.array_equal(filled, mask)


def test_a_hole_follows_its_outline() -> None:
    mask = np.zeros((30, 60), np.uint8)
    mask[5:25, 5:25] = mask[5:25, 35:55] = 255
    mask[10:20, 40:50] = 0
    polygons = find_contours(mask)
    assert all(polygon[0] == polygon[-1] for polygon in polygons)
    widths = [cv2.boundingRect(np.array(polygon))[2] for polygon in polygons]
    assert sorted(widths) == [12, 20, 20]  # the hole's polygon runs through the pixels around it
    hole = polygons[widths.index(12)]
    outline = polygons[widths.index(12) - 1]
    assert min(x for x, _ in outline) == 35 < min(x for x, _ in hole)


def test_an_empty_mask_has_no_contours() -> None:
    assert find_contours(np.zeros((30, 60), np.uint8)) == []


@pytest.mark.slow
@given(MASKS)
@settings(max_examples=300, deadline=None)
def test_geojson_polygons_are_valid_and_hold_the_mask(mask: np.ndarray) -> None:
    geometry = to_geojson_geometry(mask)
    if geometry is None:
        assert not mask.any()
        return
    polygons = shape(geometry)
    assert polygons.is_valid
    assert polygons.area == np.count_nonzero(mask)
    rows, columns = np.indices(mask.shape) + 0.5  # the centres of the pixels
    assert np.array_equal(shapely.contains_xy(polygons, columns, rows), mask > 0)


def test_the_rings_of_a_polygon_are_closed_and_oriented() -> None:
    """Counter-clockwise outlines and clockwise holes (RFC 7946 3.1.6)."""
    mask = np.zeros((30, 30), np.uint8)
    mask[5:25, 5:25] = 255
    mask[10:20, 12:18] = 0
    geometry = to_geojson_geometry(mask)
    assert geometry["type"] == "Polygon"
    outline, hole = geometry["coordinates"]
    assert len(outline) == len(hole) == 5  # only the corners, the first twice
    assert outline[0] == outline[-1]
    assert shapely.LinearRing(outline).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
