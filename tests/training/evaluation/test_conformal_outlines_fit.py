"""The fitted margins give the promised coverage on frames like the calibration frames."""

import dataclasses
import math

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.decoding.frame import Frame
from service.inference.conformal_outlines import find_outlines
from service.inference.postprocessing import postprocess
from service.inference.segmenter import build_segmentation
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from tests.frames import png
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import ManifestRow, read_frame, read_manifest, read_nerve_mask, write_pairs
from training.data.source_errors import IngestLog
from training.evaluation.conformal_outlines_fit import (
    COVERAGE,
    LEVEL,
    OUTLINE_SCORES,
    conformal_quantile,
    fit_outlines,
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


def coverages(probability, truth, outer_margin, inner_margin, calibration=CONFIG.pixel_calibration):
    """Return the shares that the outlines of these margins have, as the service draws them."""
    margins = ConformalOutlines(outer_margin, inner_margin, COVERAGE, LEVEL, 0.5, 20, None)
    config = dataclasses.replace(CONFIG, pixel_calibration=calibration, outlines=margins)
    scores = score_outlines(probability, build_segmentation(probability, 1.0, config), truth, config)
    return scores["outer_coverage"], scores["inner_coverage"]


@given(st.integers(0, 10_000), st.floats(0, 3), st.floats(0.2, 4), st.floats(-3, 3), st.integers(0, 4))
def test_the_needed_margins_and_larger_ones_give_the_coverage(seed, more, slope, intercept, digits) -> None:
    """Also with probabilities of 0 and 1, which a network in half precision returns."""
    probability, truth = draw_frame(seed)
    probability, calibration = probability.round(digits), PlattScaling(slope, intercept)
    config = dataclasses.replace(CONFIG, pixel_calibration=calibration)
    mask = postprocess(probability, 1.0, config)
    if not mask.any():
        return
    outer, inner = needed_margins(probability, mask, truth, calibration)
    outer_coverage, inner_coverage = coverages(probability, truth, outer + 1e-4 + more, inner + more, calibration)
    assert outer_coverage >= COVERAGE
    assert math.isnan(inner_coverage) or inner_coverage >= COVERAGE


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_smaller_margins_do_not_give_it(seed) -> None:
    """A bin of probabilities is up to 0.02 wide in log-odds."""
    probability, truth = draw_frame(seed)
    mask = postprocess(probability, 1.0, CONFIG)
    outer, inner = needed_margins(probability, mask, truth, CONFIG.pixel_calibration)
    assume(max(outer, inner) > 0.05)
    if outer > 0.05:
        assert coverages(probability, truth, outer - 0.05, 0)[0] < COVERAGE
    if inner > 0.05:  # some smaller margin fails, if not each
        margins = np.linspace(0, inner, 100)
        assert min(coverages(probability, truth, 0, margin)[1] for margin in margins) < COVERAGE


def test_without_a_nerve_the_inner_region_has_to_be_empty() -> None:
    probability, _ = draw_frame(1)
    nothing = np.zeros(SHAPE, bool)
    mask = postprocess(probability, 1.0, CONFIG)
    outer, inner = needed_margins(probability, mask, nothing, CONFIG.pixel_calibration)
    assert outer is None
    margins = ConformalOutlines(0.0, inner, COVERAGE, LEVEL, 0.5, 20, None)
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


def make_rows(count: int, tmp_path, monkeypatch) -> list[ManifestRow]:
    """Return the rows of frames whose grey values are the network's probabilities; every fourth shows no nerve."""

    def pair(number: int) -> FrameMaskPair:
        probability, truth = draw_frame(number)
        labels = (truth & (number % 4 > 0)).astype(np.uint8)
        grey = np.rint(probability * 65535).astype(np.uint16)
        return FrameMaskPair(png(grey), ".png", labels, str(number // 3), number, vessels=False)

    folder = tmp_path / "data" / "frames"
    write_pairs((pair(number) for number in range(count)), folder, "phantom", IngestLog(skip=False))
    monkeypatch.chdir(tmp_path)
    return read_manifest(folder)


def network(frame: Frame) -> tuple[np.ndarray, float]:
    return (frame.pixels / np.float32(65535)).astype(np.float32), 1.0


def test_the_margins_of_validation_frames_hold_on_other_frames(tmp_path, monkeypatch) -> None:
    rows = make_rows(160, tmp_path, monkeypatch)
    margins = fit_outlines(network, rows[:80], CONFIG)
    assert (margins.frames, margins.subjects) == (60, 27)
    config = dataclasses.replace(CONFIG, outlines=margins)
    scores = []
    for row in rows[80:]:
        probability, truth = network(read_frame(row))[0], read_nerve_mask(row)
        segmentation = build_segmentation(probability, 1.0, config)
        scores.append(
            {
                "nerve": bool(truth.any()),
                "confidence": segmentation.confidence,
                **score_outlines(probability, segmentation, truth, config),
            }
        )
    summary = summarize_outlines(pd.DataFrame(scores))
    assert summary["outer_outline_held"] >= 0.8
    assert summary["inner_outline_held"] >= 0.8
    assert summary["inner_outline_area"] < 1 < summary["outer_outline_area"]
    assert summary["without_outline_guarantee"] == 0


def test_few_frames_with_a_nerve_give_no_margins(tmp_path, monkeypatch) -> None:
    rows = make_rows(12, tmp_path, monkeypatch)
    assert sum(row.nerve_px > 0 for row in rows) == 9
    assert fit_outlines(network, rows, CONFIG).frames == 9
    assert fit_outlines(network, rows[1:], CONFIG) is not None  # the first shows no nerve
    assert fit_outlines(network, rows[2:], CONFIG) is None


def test_the_summary_counts_only_frames_with_a_guarantee() -> None:
    nan = math.nan
    scores = pd.DataFrame(
        {
            "nerve": [True, True, True, True, False],
            "confidence": [0.9, 0.8, 0.3, nan, 0.7],
            "has_guarantee": [True, True, False, False, True],
            "outer_coverage": [0.95, 0.5, 0.1, nan, nan],
            "inner_coverage": [1.0, nan, 0.1, nan, 0.0],
            "outer_area": [2.0, 3.0, 9.0, nan, nan],
            "inner_area": [0.5, 0.0, 0.1, nan, nan],
        }
    )
    assert summarize_outlines(scores) == {
        "outer_outline_held": 0.5,
        "inner_outline_held": 0.6667,
        "outer_outline_area": 2.5,
        "inner_outline_area": 0.25,
        "without_outline_guarantee": 0.5,
    }


def test_without_outlines_the_summary_says_so() -> None:
    scores = pd.DataFrame([{"nerve": True, "has_guarantee": False, **dict.fromkeys(OUTLINE_SCORES, math.nan)}])
    assert summarize_outlines(scores) == {
        **dict.fromkeys(("outer_outline_held", "inner_outline_held", "outer_outline_area", "inner_outline_area")),
        "without_outline_guarantee": 1.0,
    }
