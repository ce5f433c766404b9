"""The outlines enclose each other, and say when their guarantee does not hold."""

import dataclasses
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decoding.frame import Frame
from service.inference.conformal_outlines import NO_OUTLINES_NOTE, add_outlines, find_outlines
from service.inference.out_of_distribution import image_features
from service.inference.postprocessing import postprocess
from service.inference.segmentation_result import FrameResult
from service.inference.segmenter import Segmenter, build_segmentation
from service.inference.temporal_smoothing import TemporalSmoother
from service.model.card import Card
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from training.evaluation.out_of_distribution_fit import fit_stats

MARGINS = ConformalOutlines(
    outer_margin=2.0, inner_margin=1.0, coverage=0.9, level=0.9, min_confidence=0.5, frames=30, subjects=None
)
CONFIG = PostprocessingConfig(0.5, 0.0, outlines=MARGINS)
PIXELS = PlattScaling(0.8, -0.3)
# Probability falls with the distance from the centre.
ROWS, COLUMNS = np.mgrid[:80, :100]
HILL = (1 / (1 + np.exp(np.hypot(ROWS - 40, COLUMNS - 50) / 3 - 5))).astype(np.float32)
SURE = np.where(HILL >= 0.5, np.float32(0.97), np.float32(0.001))  # a mask with a high confidence


def outlined(probability, config=CONFIG, presence=1.0, no_guarantee=None):
    return add_outlines(build_segmentation(probability, presence, config), probability, config, no_guarantee)


@given(st.floats(0, 12), st.floats(0, 12), st.integers(0, 20))
def test_the_outlines_enclose_each_other(outer_margin, inner_margin, seed) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.1, HILL.shape)
    probability = np.clip(HILL + noise, 0, 1).astype(np.float32)
    config = dataclasses.replace(CONFIG, pixel_calibration=PIXELS, max_components=1)
    mask = postprocess(probability, 1.0, config)
    margins = dataclasses.replace(MARGINS, outer_margin=outer_margin, inner_margin=inner_margin)
    outer, inner = find_outlines(probability, mask, PIXELS, margins)
    assert {*np.unique(outer), *np.unique(inner)} <= {0, 255}
    assert outer.dtype == inner.dtype == np.uint8
    assert (inner <= mask).all()
    assert (mask <= outer).all()


def test_margins_of_0_give_the_mask_itself() -> None:
    mask = postprocess(HILL, 1.0, CONFIG)
    none = dataclasses.replace(MARGINS, outer_margin=0.0, inner_margin=0.0)
    outer, inner = find_outlines(HILL, mask, PlattScaling(), none)
    assert np.array_equal(outer, mask)
    assert np.array_equal(inner, mask)


def test_a_large_margin_gives_the_whole_frame_or_nothing() -> None:
    mask = postprocess(HILL, 1.0, CONFIG)
    wide = dataclasses.replace(MARGINS, outer_margin=40.0, inner_margin=40.0)
    outer, inner = find_outlines(HILL, mask, PlattScaling(), wide)
    assert outer.all()
    assert not inner.any()


@pytest.mark.parametrize("calibration", [PlattScaling(), PlattScaling(1.4, -0.5), PlattScaling(0.3, 2.0)])
def test_probabilities_of_0_and_1_are_finite_log_odds(calibration) -> None:
    """A network in half precision returns both."""
    probability = np.where(HILL >= 0.5, np.float32(1), np.float32(0))
    mask = postprocess(probability, 1.0, CONFIG)
    margins = dataclasses.replace(MARGINS, outer_margin=80.0, inner_margin=80.0)
    outer, inner = find_outlines(probability, mask, calibration, margins)
    assert outer.all()
    assert not inner.any()


def test_the_guarantee_holds_for_a_sure_mask_of_a_usual_frame() -> None:
    segmentation = outlined(SURE)
    assert segmentation.confidence > MARGINS.min_confidence
    assert segmentation.outlines.no_guarantee is None
    assert segmentation.all_notes == ()


UNSURE = dataclasses.replace(CONFIG, confidence_calibration=PlattScaling(1, -9))


@pytest.mark.parametrize(
    ("config", "reason", "expected"),
    [
        (CONFIG, "the model is a refit", "the model is a refit"),
        (UNSURE, None, "the confidence is below 0.5"),
        (UNSURE, "the model is a refit", "the model is a refit"),
    ],
    ids=["refit", "unsure", "both"],
)
def test_an_answer_says_why_there_is_no_guarantee(config, reason, expected) -> None:
    segmentation = outlined(SURE, config, no_guarantee=reason)
    assert segmentation.outlines.no_guarantee == expected
    assert segmentation.all_notes[-1] == f"the outlines have no guarantee: {expected}"


def test_refits_and_smoothed_masks_have_no_guarantee(outlines_model_folder, tmp_path, speckle) -> None:
    folder = tmp_path / "champion"
    shutil.copytree(outlines_model_folder, folder)
    dataclasses.replace(Card.read(folder), refit=True).write(folder)
    frame = Frame(speckle(3))
    segmenter = Segmenter(outlines_model_folder)
    assert segmenter.segment(frame, outlines=True).outlines.no_guarantee is None
    assert Segmenter(folder).segment(frame, outlines=True).outlines.no_guarantee == "the model is a refit"
    smoothed = segmenter._segment_in_flight(frame, True, TemporalSmoother().next_frame(segmenter))
    assert smoothed.outlines.no_guarantee == "the masks are smoothed"


def test_a_frame_out_of_distribution_has_no_guarantee(outlines_model_folder, tmp_path, speckle) -> None:
    folder = tmp_path / "champion"
    shutil.copytree(outlines_model_folder, folder)
    stats = fit_stats(np.stack([image_features(speckle(seed)) for seed in range(20)]))
    dataclasses.replace(Card.read(folder), out_of_distribution=stats).write(folder)
    segmenter = Segmenter(folder)
    noise = np.random.default_rng(1).integers(0, 256, speckle(3).shape, np.uint8)
    noise[100:200, 100:300] = 255  # the network finds a nerve there
    reason = segmenter.segment(Frame(noise), outlines=True).outlines.no_guarantee
    assert reason == "the frame is out of distribution"


def test_an_empty_mask_has_no_outlines() -> None:
    segmentation = outlined(SURE, presence=0.1)
    assert not segmentation.mask.any()
    assert segmentation.outlines is None
    assert segmentation.notes == ()


def test_a_model_without_margins_says_so() -> None:
    segmentation = outlined(SURE, dataclasses.replace(CONFIG, outlines=None))
    assert segmentation.outlines is None
    assert segmentation.notes == (NO_OUTLINES_NOTE,)


def test_an_answer_that_is_left_out_has_neither_outlines_nor_their_note() -> None:
    unsure = FrameResult(Frame(np.zeros(SURE.shape, np.uint8)), outlined(SURE, UNSURE), 0.0)
    assert any("outlines" in note for note in unsure.notes)
    left_out = unsure.abstain_below(0.5)
    assert left_out.segmentation.outlines is None
    assert left_out.notes == ("the answer is left out: its confidence is below 0.5",)


def test_the_outlines_of_a_scan_area_lie_in_the_frame(outlines_model_folder, speckle) -> None:
    from service.decoding.cropping import Box

    scan = speckle(3, 60, 80)
    frame = np.zeros((100, 120), np.uint8)
    area = Box(30, 20, 80, 60)
    area.crop(frame)[:] = scan
    segmenter = Segmenter(outlines_model_folder)
    alone = segmenter.segment(Frame(scan), outlines=True).outlines
    placed = segmenter.segment(Frame(frame, scan_area=area), outlines=True).outlines
    assert alone.outer.any()
    for region, whole in zip(alone[:2], placed[:2], strict=True):
        assert np.array_equal(area.crop(whole), region)
        assert np.count_nonzero(whole) == np.count_nonzero(region)
    assert segmenter.segment(Frame(scan)).outlines is None
