"""Which precisions are as good as the trained net: a fall of Dice, told from the noise of few frames."""

import numpy as np
import pytest

from training.precision import as_good


@pytest.mark.parametrize(
    ("frames", "fall", "noise", "good"),
    [
        (200, 0.0, 0.0, True),
        (200, 0.001, 0.01, True),
        (200, 0.01, 0.01, False),
        (200, -0.01, 0.01, True),  # it is better
        (26, 0.004, 0.03, True),  # as far as 26 frames can tell
        (26, 0.02, 0.03, False),
    ],
)
def test_a_fall_counts_where_it_stands_out_of_its_noise(frames, fall, noise, good):
    change = np.resize([noise, -noise], frames) - fall
    assert as_good(change) is good
