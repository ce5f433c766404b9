"""Fitted postprocessing, baselines and metrics on frames with a known correct result."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from service.model.postprocessing_config import PostprocessingConfig
from tests.frames import png
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import read_manifest, write_pairs
from training.data.source_errors import IngestLog
from training.evaluation.baselines import MeanMask
from training.evaluation.frame_scores import score
from training.evaluation.postprocessing_fit import (
    GRID,
    MAX_COMPONENTS,
    Thresholds,
    choose_simplest,
    choose_thresholds,
    fit_postprocessing,
    score_choices,
)
from training.evaluation.summary import summarize


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Eight frames with a bright square. In every second frame the square is darker and not a nerve."""
    square = np.zeros((60, 80), np.uint8)
    square[20:40, 30:60] = 1

    def pair(number: int) -> FrameMaskPair:
        nerve = number % 2
        pixels = square * (200 if nerve else 140)
        return FrameMaskPair(png(pixels), ".png", square * nerve, "1", number, vessels=False)

    folder = tmp_path / "data" / "frames"
    write_pairs((pair(number) for number in range(8)), folder, "phantom", IngestLog(skip=False))
    monkeypatch.chdir(tmp_path)
    return read_manifest(folder)


def brightness_network(frame):
    """Return brightness as the probability, and its maximum as presence."""
    probability = frame.pixels.astype(np.float32) / 255
    return probability, float(probability.max())


def test_the_fitted_minimum_presence_empties_masks_without_a_nerve(rows):
    config = fit_postprocessing(brightness_network, rows)
    scores = score(brightness_network, config, MeanMask.fit(rows), rows)
    assert scores["dice"].tolist() == [1.0] * 8


def test_a_limit_must_raise_the_mean_dice_by_more_than_its_standard_error():
    dice = np.random.default_rng(0).random(20) / 2
    noise = np.random.default_rng(1).normal(0, 0.2, 20)
    for gain, choice in ((0.01, 0), (0.2, 1)):
        dice_by_choice = np.stack([dice, dice + gain + noise - noise.mean()], axis=1)
        assert choose_simplest(dice_by_choice, [0, 1]) == choice
    assert choose_simplest(np.array([[0.4, 0.5, 0.5]]), [0, 0, 0]) == 1


def test_the_grid_finds_the_limits_that_empty_small_masks_and_remove_components():
    """Masks without a nerve are small; masks with a nerve are better with one component."""
    nerve = np.arange(40) % 2 == 0
    area_share = np.where(nerve, 0.01, 0.0015)
    measurements_by_limit = {
        limit: pd.DataFrame(
            {
                "dice": np.where(nerve, 0.9 if limit == 1 else 0.5, 0.0),
                "area_share": area_share,
                "presence": 0.5,
                "nerve": nerve,
            }
        )
        for limit in MAX_COMPONENTS
    }
    dice_by_choice = score_choices(measurements_by_limit)
    assert dice_by_choice.shape == (40, len(GRID))
    assert dice_by_choice[:, GRID.index(Thresholds(0.0, 0.0, None))].mean() == 0.25
    assert choose_thresholds(dice_by_choice, always_nerve=False)[1:] == (0.002, 1)


def test_the_minimum_presence_is_in_the_middle_of_the_gap_or_just_above_0(rows):
    presence = {200: 0.9, 140: 0.1}

    def network(frame):
        probability, _ = brightness_network(frame)
        return probability, presence[frame.pixels.max()]

    assert fit_postprocessing(network, rows).min_presence == pytest.approx(0.5, abs=0.051)
    with_nerve = [row for row in rows if row.nerve_px]
    assert fit_postprocessing(network, with_nerve).min_presence == 0.05
    presence[200] = 0.01
    assert fit_postprocessing(network, with_nerve).min_presence == 0  # no nerve may be missed


def test_without_thresholds_masks_without_a_nerve_cost_half_of_the_dice(rows):
    scores = score(brightness_network, PostprocessingConfig(0.0, 0.0), MeanMask.fit(rows), rows)
    metrics = summarize(scores)
    assert metrics["dice"] == 0.5
    assert metrics["dice_with_nerve"] == 1.0
    assert metrics["presence_auc"] == 1.0
    assert metrics["baseline_empty"] == 0.5
    assert metrics["hausdorff95_px"] == 0.0


def test_the_mean_mask_of_equal_masks_is_that_mask(rows):
    with_nerve = [row for row in rows if row.nerve_px]
    scores = score(brightness_network, PostprocessingConfig(0.0, 0.0), MeanMask.fit(with_nerve), with_nerve)
    assert summarize(scores)["baseline_mean_mask"] > 0.9


def test_metrics_that_the_frames_do_not_define_are_none(rows):
    with_nerve = [row for row in rows if row.nerve_px]
    metrics = summarize(score(brightness_network, PostprocessingConfig(1.0, 0.0), MeanMask.fit(rows), with_nerve))
    assert metrics["presence_auc"] is None  # no frame without a nerve
    assert metrics["hausdorff95_px"] is None  # every mask is empty
    assert not any(isinstance(value, float) and math.isnan(value) for value in json.loads(json.dumps(metrics)).values())
