"""Block histograms, by which nearly identical frames are found. test_split_table.py tests the contradictions."""

import numpy as np
import pytest

from training.data.contradictory_masks import block_histogram


def test_a_block_histogram_holds_the_histogram_of_each_block():
    grey = np.random.default_rng(0).integers(0, 256, (65, 50), dtype=np.uint8)
    histograms = block_histogram(grey).reshape(3 * 2, 16)
    for row in range(3):
        for column in range(2):
            block = grey[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
            expected = np.histogram(block, bins=16, range=(0, 256))[0] / 400
            assert histograms[2 * row + column] == pytest.approx(expected)
    assert np.array_equal(block_histogram(grey.astype(np.uint16) * 257), histograms.ravel())
