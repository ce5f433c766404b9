"""Answers that are likely to be wrong have a note, and the service abstains from them on request."""

from dataclasses import replace

import numpy as np
import pytest

from service.decoding.frame import Frame
from service.inference.segmentation_result import (
    LOW_CONFIDENCE_NOTE,
    MIN_CONFIDENCE,
    UNCERTAIN_ABSENCE_NOTE,
    UNKNOWN_ABSENCE_NOTE,
    FrameResult,
    FrameSegmentation,
)
from service.inference.segmenter import can_exclude_nerve


def make_segmentation(
    confidence: float | None, presence: float = 0.9, can_exclude_nerve: bool = True
) -> FrameSegmentation:
    mask = np.full((20, 30), 0 if confidence is None else 255, np.uint8)
    return FrameSegmentation(mask, presence, confidence, 1.0, ("a note",), can_exclude_nerve)


@pytest.mark.parametrize(
    ("segmentation", "expected_dice", "notes"),
    [
        (make_segmentation(0.8), 0.8, ()),
        (make_segmentation(MIN_CONFIDENCE), MIN_CONFIDENCE, ()),
        (make_segmentation(0.3), 0.3, (LOW_CONFIDENCE_NOTE,)),
        (make_segmentation(0.8, presence=0.1, can_exclude_nerve=False), 0.8, ()),
        (make_segmentation(None, presence=0.2), 0.8, ()),
        (make_segmentation(None, presence=0.7), 0.3, (UNCERTAIN_ABSENCE_NOTE,)),
        (make_segmentation(None, presence=0.2, can_exclude_nerve=False), 0.0, (UNKNOWN_ABSENCE_NOTE,)),
    ],
)
def test_an_answer_that_is_likely_to_be_wrong_has_a_note(segmentation, expected_dice, notes) -> None:
    assert segmentation.expected_dice == pytest.approx(expected_dice)
    assert segmentation.confidence_notes == notes
    frame = Frame(segmentation.mask // 2, notes=("about the frame",))
    assert FrameResult(frame, segmentation, 1.0).notes == ("about the frame", "a note", *notes)


def test_below_the_minimum_confidence_the_service_abstains() -> None:
    segmentation = make_segmentation(0.3)
    result = FrameResult(Frame(segmentation.mask // 2), segmentation, 1.0)
    assert result.abstain_below(0.0) is result
    assert result.abstain_below(0.3) is result
    abstained = result.abstain_below(0.31)
    assert abstained.segmentation.present is None
    assert not abstained.segmentation.mask.any()
    assert abstained.segmentation.confidence == 0.3  # the reader sees why
    assert abstained.notes == ("a note", "the answer is left out: its confidence is below 0.31")
    assert segmentation.mask.all(), "the result itself stays as it is"


def test_the_service_abstains_from_an_empty_mask_that_it_cannot_know() -> None:
    segmentation = make_segmentation(None, presence=0.1, can_exclude_nerve=False)
    result = FrameResult(Frame(segmentation.mask), segmentation, 1.0)
    assert result.abstain_below(0.0).segmentation.present is False
    assert result.abstain_below(0.1).segmentation.present is None


@pytest.mark.parametrize(
    ("frames_without_nerve", "presence_auc", "expected"),
    [(5, None, True), (0, 0.9, False), (None, 0.9, True), (None, None, False)],
)
def test_the_card_says_whether_an_empty_mask_means_anything(card, frames_without_nerve, presence_auc, expected) -> None:
    """The cards of earlier releases do not count frames without a nerve."""
    card = replace(
        card,
        trained_on=replace(card.trained_on, frames_without_nerve=frames_without_nerve),
        metrics={"validation": {"presence_auc": presence_auc}},
    )
    assert can_exclude_nerve(card) is expected
