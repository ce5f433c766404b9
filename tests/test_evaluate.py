"""Thresholds, baselines and summaries, on frames whose right answers are known."""

import json
import math

import numpy as np
import pytest

from service.card import Decision
from tests.frames import png
from training.baselines import MeanMask
from training.evaluate import fit_decision, score, simplest
from training.scores import summary
from training.sources.layout import Faults, Pair, read_manifest, write


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Eight frames as bright as their nerve's square; in every second frame the square is no nerve, and darker."""
    square = np.zeros((60, 80), np.uint8)
    square[20:40, 30:60] = 1

    def pair(number: int) -> Pair:
        holds = number % 2
        pixels = square * (200 if holds else 140)
        return Pair(png(pixels), ".png", square * holds, "1", number, vessels=False)

    folder = tmp_path / "data" / "frames"
    write((pair(number) for number in range(8)), folder, "phantom", Faults(leave_out=False))
    monkeypatch.chdir(tmp_path)
    return read_manifest(folder)


def by_brightness(frame):
    """A network that takes brightness for probability, and its highest for presence."""
    probability = frame.pixels.astype(np.float32) / 255
    return probability, float(probability.max())


def test_the_fitted_presence_empties_what_only_looks_like_a_nerve(rows):
    decision = fit_decision(by_brightness, rows)
    scores = score(by_brightness, decision, MeanMask.of(rows), rows)
    # Either threshold tells 140 from 200; what counts is that every mask is right.
    assert scores["dice"].tolist() == [1.0] * 8


def test_a_limit_is_set_only_where_it_is_worth_more_than_its_standard_error():
    hardness = np.random.default_rng(0).random(20) / 2
    gain = np.random.default_rng(1).normal(0, 0.2, 20)
    for worth, choice in ((0.01, 0), (0.2, 1)):
        reached = np.stack([hardness, hardness + worth + gain - gain.mean()], axis=1)
        assert simplest(reached, np.array([0, 1])) == choice
    assert simplest(np.array([[0.4, 0.5, 0.5]]), np.array([0, 0, 0])) == 1


def test_the_presence_that_a_mask_needs_lies_amid_the_gap_or_where_none_is_known_just_above_nothing(rows):
    said = {200: 0.9, 140: 0.1}

    def network(frame):
        probability, _ = by_brightness(frame)
        return probability, said[frame.pixels.max()]

    assert fit_decision(network, rows).presence == pytest.approx(0.5, abs=0.051)
    with_nerve = [row for row in rows if row.nerve_px]
    assert fit_decision(network, with_nerve).presence == 0.05
    said[200] = 0.01
    assert fit_decision(network, with_nerve).presence == 0  # none of them is lost


def test_without_thresholds_the_look_alikes_cost_half_the_dice(rows):
    scores = score(by_brightness, Decision(0.0, 0.0), MeanMask.of(rows), rows)
    figures = summary(scores)
    assert figures["dice"] == 0.5
    assert figures["dice_with_nerve"] == 1.0
    assert figures["presence_auc"] == 1.0
    assert figures["baseline_empty"] == 0.5
    assert figures["hausdorff95_px"] == 0.0


def test_the_mean_mask_of_equal_masks_is_that_mask(rows):
    with_nerve = [row for row in rows if row.nerve_px]
    figures = summary(score(by_brightness, Decision(0.0, 0.0), MeanMask.of(with_nerve), with_nerve))
    assert figures["baseline_mean_mask"] > 0.9


def test_a_split_without_empty_frames_has_no_presence_curve(rows):
    with_nerve = [row for row in rows if row.nerve_px]
    figures = summary(score(by_brightness, Decision(1.0, 0.0), MeanMask.of(rows), with_nerve))
    assert figures["presence_auc"] is None
    assert figures["hausdorff95_px"] is None  # every mask is empty: there is no distance to nothing
    assert not any(isinstance(value, float) and math.isnan(value) for value in json.loads(json.dumps(figures)).values())
