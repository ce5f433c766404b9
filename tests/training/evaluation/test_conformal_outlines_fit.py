"""The fitted margins give the promised coverage on frames like the calibration frames."""

import dataclasses
import math

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.conformal_outlines import find_outlines
from service.inference.postprocessing import postprocess
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from training.evaluation.conformal_outlines_fit import (
    COVERAGE,
    LEVEL,
    conformal_quantile,
    needed_margins,
    score_outlines,
    summarize_outlines,
)

CONFIG = PostprocessingConfig(0.0, 0.0, pixel_calibration=PlattScaling(0.9, 0.1))
SHAPE = (40, 50)


def draw_frame(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a network that is somewhat wrong about a nerve, and the nerve."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    y, x = rng.uniform(12, 28), rng.uniform(15, 35)
    truth = np.hypot((rows - y) / 7, (columns - x) / 10) < 1
    dy, dx = rng.normal(0, 2.5, 2)
    distance = np.hypot((rows - y - dy) / 7, (columns - x - dx) / 10)
    noise = cv2.GaussianBlur(rng.normal(0, 6, SHAPE), (0, 0), 3)
    return (1 / (1 + np.exp(6 * (distance - 1) + noise))).astype(np.float32), truth


def coverages(probability, truth, outer_margin, inner_margin) -> tuple[float, float]:
    margins = ConformalOutlines(outer_margin, inner_margin, COVERAGE, LEVEL, 0.5, 20)
    scores = score_outlines(
        probability, postprocess(probability, 1.0, CONFIG), truth, dataclasses.replace(CONFIG, outlines=margins)
    )
    return scores["outer_coverage"], scores["inner_coverage"]


@given(st.integers(0, 10_000), st.floats(0, 3))
def test_the_needed_margins_and_larger_ones_give_the_coverage(seed, more) -> None:
    probability, truth = draw_frame(seed)
    mask = postprocess(probability, 1.0, CONFIG)
    outer, inner = needed_margins(probability, mask, truth, CONFIG.pixel_calibration)
    outer_coverage, inner_coverage = coverages(probability, truth, outer + 1e-4 + more, inner + 1e-4 + more)
    assert outer_coverage >= COVERAGE
    assert math.isnan(inner_coverage) or inner_coverage >= COVERAGE


@given(st.integers(0, 10_000))
def test_smaller_margins_do_not_give_it(seed) -> None:
    """A bin of probabilities is up to 0.02 wide in log-odds."""
    probability, truth = draw_frame(seed)
    mask = postprocess(probability, 1.0, CONFIG)
    outer, inner = needed_margins(probability, mask, truth, CONFIG.pixel_calibration)
    if outer > 0.05:
        assert coverages(probability, truth, outer - 0.05, 0)[0] < COVERAGE
    if inner > 0.05:  # some smaller margin fails, if not each
        margins = np.linspace(0, inner, 200)
        assert min(coverages(probability, truth, 0, margin)[1] for margin in margins) < COVERAGE


def test_without_a_nerve_the_inner_region_has_to_be_empty() -> None:
    probability, _ = draw_frame(1)
    nothing = np.zeros(SHAPE, bool)
    mask = postprocess(probability, 1.0, CONFIG)
    outer, inner = needed_margins(probability, mask, nothing, CONFIG.pixel_calibration)
    assert outer == 0
    margins = ConformalOutlines(0.0, inner + 1e-4, COVERAGE, LEVEL, 0.5, 20)
    assert not find_outlines(probability, mask, CONFIG.pixel_calibration, margins)[1].any()


@pytest.mark.parametrize(("count", "position"), [(8, None), (9, 9), (19, 18), (20, 19), (99, 90)])
def test_the_quantile_has_the_position_of_conformal_prediction(count, position) -> None:
    needed = np.random.default_rng(count).permutation(np.arange(1, count + 1) / 7)
    quantile = conformal_quantile(needed.tolist())
    assert quantile == (None if position is None else pytest.approx(position / 7, abs=1e-4))
    assert quantile is None or quantile >= position / 7  # never rounded down


def test_new_frames_are_covered_as_often_as_promised() -> None:
    """Of 40 x 50 new frames: the mean over many calibrations is what conformal prediction guarantees."""
    frames = [draw_frame(seed) for seed in range(600)]
    needed = np.array(
        [
            needed_margins(probability, postprocess(probability, 1.0, CONFIG), truth, CONFIG.pixel_calibration)
            for probability, truth in frames
        ]
    )
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        order = rng.permutation(len(needed))
        margins = [conformal_quantile(needed[order[:25], which].tolist()) for which in (0, 1)]
        held.append((needed[order[25:]] <= margins).mean(axis=0))
    means = np.mean(held, axis=0)
    assert (means >= LEVEL - 0.01).all()
    assert (means <= LEVEL + 2 / 26 + 0.01).all()  # the margins are not much wider than they have to be


def test_the_summary_counts_only_frames_with_a_guarantee() -> None:
    nan = math.nan
    scores = pd.DataFrame(
        {
            "nerve": [True, True, True, True, False],
            "confidence": [0.9, 0.8, 0.3, nan, 0.7],
            "has_outlines": [True, True, True, False, True],
            "outer_coverage": [0.95, 0.5, 0.1, nan, nan],
            "inner_coverage": [1.0, nan, 0.1, nan, 0.0],
            "outer_area": [2.0, 3.0, 9.0, nan, nan],
        }
    )
    assert summarize_outlines(scores) == {
        "outer_outline_held": 0.5,
        "inner_outline_held": pytest.approx(2 / 3),
        "outer_outline_area": 2.5,
        "without_outline_guarantee": 0.5,
    }
