"""Contrast of a nerve with the tissue around it, on frames where it is known."""

import numpy as np
import pandas as pd
import pytest

from training.evaluation.nerve_contrast import measure_contrast, summarize_contrast

ROWS, COLUMNS = np.mgrid[:100, :120]
NERVE = np.hypot(ROWS - 50, COLUMNS - 60) < 15


@pytest.mark.parametrize("difference", [-20, 0, 40])
def test_contrast_to_noise_is_the_difference_over_the_deviation(difference) -> None:
    noise = np.random.default_rng(1).normal(100, 20, NERVE.shape)
    measures = measure_contrast(np.clip(noise + difference * NERVE, 0, 255).astype(np.uint8), NERVE)
    assert measures["contrast_to_noise"] == pytest.approx(difference / 20, abs=0.15)
    assert measures["area_share"] == NERVE.mean()
    assert measures["nerves"] == 1


def test_equal_tissue_overlaps_and_other_tissue_does_not() -> None:
    noise = np.random.default_rng(1).normal(100, 5, NERVE.shape).astype(np.uint8)
    assert measure_contrast(noise, NERVE)["overlap"] > 0.8
    assert measure_contrast(noise + np.uint8(80) * NERVE, NERVE)["overlap"] == 0


def test_tissue_far_from_the_nerve_does_not_count() -> None:
    grey = np.full(NERVE.shape, 60, np.uint8)
    grey[NERVE] = 100
    far = np.hypot(ROWS - 50, COLUMNS - 60) > 35
    changed = np.where(far, np.uint8(250), grey)
    assert measure_contrast(changed, NERVE) == measure_contrast(grey, NERVE)


def test_two_nerves_are_counted() -> None:
    two = NERVE | (np.hypot(ROWS - 15, COLUMNS - 15) < 6)
    assert measure_contrast(np.full(NERVE.shape, 60, np.uint8), two)["nerves"] == 2


def test_the_table_has_quantiles_and_the_mean() -> None:
    table = summarize_contrast(pd.DataFrame({"overlap": [0.0, 0.5, 1.0], "nerves": [1, 1, 4]}))
    assert table.to_dict("records") == [
        {"of a frame": "overlap", "0.1": "0.100", "0.5": "0.500", "0.9": "0.900", "mean": "0.500"},
        {"of a frame": "nerves", "0.1": "1.000", "0.5": "1.000", "0.9": "3.400", "mean": "2.000"},
    ]
