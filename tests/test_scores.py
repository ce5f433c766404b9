"""Figures with intervals, and the table by size, of scores that are known."""

import re

import numpy as np
import pandas as pd
import pytest

from training.scores import groups, spread, summary, table


@pytest.fixture
def scores() -> pd.DataFrame:
    """Ninety frames of two sizes; the larger the nerve the better, and the confidence knows it."""
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


def test_an_interval_holds_its_figure_and_narrows_with_more_frames() -> None:
    dice = pd.Series(np.random.default_rng(1).uniform(0.2, 1, 400))
    few, many = spread(dice[:40]), spread(dice)
    assert many["dice_low"] < many["dice"] < many["dice_high"]
    # Of a mean, about 1.96 deviations over the root of the number of frames.
    assert many["dice_high"] - many["dice_low"] == pytest.approx(2 * 1.96 * dice.std() / 20, rel=0.1)
    assert few["dice_high"] - few["dice_low"] > 2 * (many["dice_high"] - many["dice_low"])


def test_the_share_of_lost_frames() -> None:
    assert spread(pd.Series([0.0, 0.19, 0.2, 0.9]))["dice_lost"] == 0.5


def test_confidence_is_held_against_dice(scores: pd.DataFrame) -> None:
    figures = summary(scores)
    assert figures["confidence_correlation"] == 1.0
    assert figures["confidence_error"] == 0.05
    assert figures["presence_calibration_error"] is None  # no frame without a nerve: nothing to hold it against


def test_the_groups_are_thirds_of_nerves_and_sizes_of_frames(scores: pd.DataFrame) -> None:
    found = groups(scores)
    assert {name: row["frames"] for name, row in found.items()} == {
        "all": 90,
        "small nerve": 30,
        "middling nerve": 30,
        "large nerve": 30,
        "580x420 pixels": 60,
        "761x632 pixels": 30,
    }
    assert found["small nerve"]["dice"] < found["middling nerve"]["dice"] < found["large nerve"]["dice"]
    lines = table(found).splitlines()
    assert len(lines) == 2 + len(found)
    assert re.match(r"\| all +\| 90 +\| 0\.500 \(", lines[2])
