"""Run-lengths hold exactly the mask, in Kaggle's format."""

import numpy as np
from hypothesis import given, settings

from service.rendering.run_lengths import encode_run_lengths
from tests.run_lengths import decode_run_lengths
from tests.service.rendering.masks import MASKS


@given(MASKS)
@settings(deadline=None)
def test_run_lengths_hold_the_mask(mask: np.ndarray) -> None:
    assert np.array_equal(decode_run_lengths(encode_run_lengths(mask), mask.shape), mask)


def test_run_lengths_count_down_the_columns_from_1() -> None:
    mask = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    assert encode_run_lengths(mask) == "2 3"  # one run, from the first column into the second
    assert encode_run_lengths(np.zeros((3, 4), np.uint8)) == ""
    assert encode_run_lengths(np.full((3, 4), 255, np.uint8)) == "1 12"
