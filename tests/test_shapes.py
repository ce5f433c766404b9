"""A mask in other shapes: each of them holds exactly its pixels."""

import cv2
import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import shape

from service.shapes import contours, polygons, run_lengths

masks = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.sampled_from([0, 255]),
    fill=st.sampled_from([0, 255]),
)


def from_run_lengths(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Kaggle's own reading: columns first, counted from 1."""
    pixels = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = list(map(int, rle.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert length > 0
        pixels[start - 1 : start - 1 + length] = 255
    return pixels.reshape(shape, order="F")


@given(masks)
def test_run_lengths_hold_the_mask(mask: np.ndarray) -> None:
    assert np.array_equal(from_run_lengths(run_lengths(mask), mask.shape), mask)


def test_run_lengths_are_kaggles() -> None:
    mask = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    assert run_lengths(mask) == "2 3"  # rows down the first column, then the second: one run over both
    assert run_lengths(np.zeros((3, 4), np.uint8)) == ""
    assert run_lengths(np.full((3, 4), 255, np.uint8)) == "1 12"


@given(masks)
@settings(max_examples=300)
def test_contours_filled_by_the_even_odd_rule_are_the_mask(mask: np.ndarray) -> None:
    drawn = np.zeros_like(mask)
    polygons = [np.array(polygon, np.int32) for polygon in contours(mask)]
    cv2.fillPoly(drawn, polygons, 255)  # fills by the even-odd rule, and draws the border
    assert np.array_equal(drawn, mask)


def test_a_hole_follows_its_outline() -> None:
    mask = np.zeros((30, 60), np.uint8)
    mask[5:25, 5:25] = mask[5:25, 35:55] = 255
    mask[10:20, 40:50] = 0
    sizes = [cv2.boundingRect(np.array(polygon))[2] for polygon in contours(mask)]
    assert all(polygon[0] == polygon[-1] for polygon in contours(mask))
    assert sorted(sizes) == [12, 20, 20]  # a hole's polygon runs through the pixels around it
    assert sizes.index(12) > 0
    assert contours(np.zeros((30, 60), np.uint8)) == []


@given(masks)
@settings(max_examples=300)
def test_polygons_are_valid_and_hold_the_mask(mask: np.ndarray) -> None:
    geometry = polygons(mask)
    if geometry is None:
        assert not mask.any()
        return
    drawn = shape(geometry)
    assert drawn.is_valid
    assert drawn.area == np.count_nonzero(mask)
    rows, columns = np.indices(mask.shape) + 0.5  # the pixels' centres
    assert np.array_equal(shapely.contains_xy(drawn, columns, rows), mask > 0)


def test_a_polygons_ring_is_closed_and_goes_as_geojson_asks() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[5:25, 5:25] = 255
    mask[10:20, 12:18] = 0
    geometry = polygons(mask)
    assert geometry["type"] == "Polygon"
    outline, hole = geometry["coordinates"]
    assert len(outline) == len(hole) == 5  # corners alone
    assert outline[0] == outline[-1]
    assert shapely.LinearRing(outline).is_ccw  # RFC 7946 3.1.6
    assert not shapely.LinearRing(hole).is_ccw
