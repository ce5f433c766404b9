"""Metrics with intervals, and the subgroups, of known scores."""

import re

import numpy as np
import pandas as pd
import pytest

from training.evaluation.bootstrap import bootstrap_interval
from training.evaluation.summary import subgroup_table, summarize, summarize_dice, summarize_subgroups, to_markdown


@pytest.fixture
def scores() -> pd.DataFrame:
    """Ninety frames of two sizes. A larger nerve has a better Dice and a higher confidence."""
    share = np.linspace(0.01, 0.09, 90)
    dice = share * 10
    return pd.DataFrame(
        {
            "nerve": True,
            "nerve_share": share,
            "size": np.where(np.arange(90) % 3, "580x420", "761x632"),
            "presence": 0.9,
            "confidence": dice - 0.05,
            "dice": dice,
            "iou": dice,
            "hausdorff95_px": 1.0,
            "dice_empty": 0.0,
            "dice_mean_mask": 0.1,
        }
    )


def test_an_interval_contains_the_mean_and_is_narrower_with_more_frames() -> None:
    dice = pd.Series(np.random.default_rng(1).uniform(0.2, 1, 400))
    few, many = summarize_dice(dice[:40]), summarize_dice(dice)
    assert many["dice_low"] < many["dice"] < many["dice_high"]
    # The interval of a mean spans about 1.96 standard errors to each side.
    assert many["dice_high"] - many["dice_low"] == pytest.approx(2 * 1.96 * dice.std() / 20, rel=0.1)
    assert few["dice_high"] - few["dice_low"] > 2 * (many["dice_high"] - many["dice_low"])


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_an_interval_is_the_percentile_interval_of_resamples_drawn_with_seed_1(statistic) -> None:
    values = np.random.default_rng(2).random(30)
    resamples = np.random.default_rng(1).choice(values, (2000, 30))
    expected = np.percentile(statistic(resamples, axis=1), (2.5, 97.5))
    assert bootstrap_interval(pd.Series(values), statistic) == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_one_frame_is_its_value() -> None:
    assert bootstrap_interval(pd.Series([0.7]), np.mean) == (0.7, 0.7)


def test_the_share_of_frames_with_a_low_dice() -> None:
    assert summarize_dice(pd.Series([0.0, 0.19, 0.2, 0.9]))["dice_below_0.2"] == 0.5


def test_confidence_is_compared_with_dice(scores: pd.DataFrame) -> None:
    metrics = summarize(scores)
    assert metrics["confidence_correlation"] == 1.0
    assert metrics["confidence_error"] == 0.05
    assert metrics["presence_calibration_error"] is None  # every frame shows a nerve


def test_subgroups_are_thirds_by_nerve_size_and_sizes_of_frames(scores: pd.DataFrame) -> None:
    subgroups = summarize_subgroups(scores)
    assert {name: metrics["frames"] for name, metrics in subgroups.items()} == {
        "all": 90,
        "small nerve": 30,
        "medium nerve": 30,
        "large nerve": 30,
        "580x420 pixels": 60,
        "761x632 pixels": 30,
    }
    assert subgroups["small nerve"]["dice"] < subgroups["medium nerve"]["dice"] < subgroups["large nerve"]["dice"]
    lines = to_markdown(subgroup_table(subgroups)).splitlines()
    assert len(lines) == 2 + len(subgroups)
    assert re.match(r"\| all +\| 90 +\| 0\.500 \(", lines[2])


def test_frames_with_a_near_duplicate_are_a_subgroup() -> None:
    scores = pd.DataFrame({"dice": [0.9, 0.5, 0.7], "nerve": True, "nerve_share": 0.1, "size": "2x2"})
    assert not any("near-duplicate" in name for name in summarize_subgroups(scores))
    subgroups = summarize_subgroups(scores.assign(near_duplicate=[True, False, False]))
    assert subgroups["with a near-duplicate in training"]["dice"] == 0.9
    assert subgroups["without a near-duplicate in training"]["dice"] == 0.6
