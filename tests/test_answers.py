"""A mask to its answers: each of them holds the whole mask."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.answers import contours, headers, png, run_lengths, segment
from service.card import Card
from service.frame import Frame
from service.segmenter import Segmentation

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
    assert sorted(sizes) == [12, 20, 20]  # a hole's polygon runs through the pixels around it
    assert sizes.index(12) > 0
    assert contours(np.zeros((30, 60), np.uint8)) == []


@given(masks)
def test_the_picture_holds_the_mask(mask: np.ndarray) -> None:
    read = cv2.imdecode(np.frombuffer(png(mask), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8
    assert np.array_equal(read, mask)


def found(mask: np.ndarray, confidence: float | None) -> Segmentation:
    return Segmentation(mask, 0.93456, confidence, 8.7)


def test_the_json_measures_the_mask(card: Card) -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:15, 20:30] = 255
    answer = segment(Frame(mask), found(mask, 0.876543), card, {"decode": 2.2345})
    assert answer["frame"] == {"height": 40, "width": 50, "index": 0}
    assert answer["nerve"]["present"] is True
    assert answer["nerve"]["presence"] == 0.9346
    assert answer["nerve"]["area_px"] == 50
    assert answer["nerve"]["box"] == [20, 10, 10, 5]
    assert answer["confidence"] == {"mask": 0.8765}
    assert answer["milliseconds"] == {"decode": 2.23}


def test_the_json_of_an_empty_mask_has_no_box(card: Card) -> None:
    mask = np.zeros((40, 50), np.uint8)
    nerve = segment(Frame(mask), found(mask, None), card, {})["nerve"]
    assert nerve["present"] is False
    assert (nerve["area_px"], nerve["box"], nerve["contours"], nerve["rle"]) == (0, None, [], "")


@pytest.mark.parametrize(("source", "warned"), [("phantom", True), ("usgra", False)])
def test_a_model_of_the_phantom_warns(card: Card, source: str, warned: bool) -> None:
    card = replace(card, trained_on=replace(card.trained_on, source=source))
    mask = np.zeros((40, 50), np.uint8)
    assert ("simulated" in "".join(segment(Frame(mask), found(mask, None), card, {})["warnings"])) is warned
    assert ("x-warnings" in headers(found(mask, None), card)) is warned
