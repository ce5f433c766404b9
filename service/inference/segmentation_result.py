"""The results of segmentation: of a frame, and of a frame that cannot be decoded."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.decoding.frame import Frame
from service.errors import FrameError

# Below this expected Dice an answer has a warning, and a DICOM Segmentation leaves it out. docs/accuracy.md
# (Distribution shift) says how many wrong and how many right masks are below it.
MIN_CONFIDENCE = 0.5
LOW_CONFIDENCE_NOTE = f"the confidence is below {MIN_CONFIDENCE}: the mask may be wrong"
UNCERTAIN_ABSENCE_NOTE = "no nerve was found, but the frame may show one"
NO_GUARANTEE_NOTE = "the outlines have no guarantee: "  # and the reason
UNKNOWN_ABSENCE_NOTE = (
    "no nerve was found, but the model was trained only on frames that show one: it may have missed the nerve"
)


class Outlines(NamedTuple):
    """The regions inside the two outlines of a mask: uint8 (height, width), 0 or 255. inner <= mask <= outer.

    no_guarantee: why the guarantee of the model's card does not hold for this frame; None if it holds.
    """

    outer: np.ndarray
    inner: np.ndarray
    no_guarantee: str | None


@dataclass(frozen=True)
class FrameSegmentation:
    """The mask of a frame and its scores.

    mask: uint8 (height, width) at the frame's own size, 0 or 255.
    presence: probability that the frame shows a nerve, 0..1.
    confidence: expected Dice of the mask, 0..1; None for an empty mask.
    milliseconds: time from preprocessing to the mask.
    notes: sentences for the reader of the response; `all_notes` has more.
    can_exclude_nerve: whether the model was also trained on frames without a nerve. Otherwise an empty mask says
        nothing about the frame.
    abstained: the mask was left out, because its expected Dice is too low; see `FrameResult.abstain_below`.
    outlines: around the mask; None if the client does not ask for them, or there are none.
    out_of_distribution_distance: Mahalanobis distance from the training frames, in standard deviations; None if the
        card does not describe them.
    """

    mask: np.ndarray
    presence: float
    confidence: float | None
    milliseconds: float
    notes: tuple[str, ...] = ()
    can_exclude_nerve: bool = True
    abstained: bool = False
    outlines: Outlines | None = None
    out_of_distribution_distance: float | None = None

    @property
    def present(self) -> bool | None:
        """Whether the mask shows a nerve; None if the service abstains."""
        return None if self.abstained else self.confidence is not None

    @property
    def expected_dice(self) -> float:
        """Return the Dice that the mask is expected to reach, 0..1; of an empty mask, the probability of no nerve."""
        if self.confidence is not None:
            return self.confidence
        return 1 - self.presence if self.can_exclude_nerve else 0.0

    @property
    def confidence_notes(self) -> tuple[str, ...]:
        """Return the note on an answer whose expected Dice is below MIN_CONFIDENCE; nothing for others.

        An answer that is left out has a note of its own.
        """
        if self.abstained or self.expected_dice >= MIN_CONFIDENCE:
            return ()
        if self.confidence is not None:
            return (LOW_CONFIDENCE_NOTE,)
        return (UNCERTAIN_ABSENCE_NOTE if self.can_exclude_nerve else UNKNOWN_ABSENCE_NOTE,)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Return the sentences for the reader of the response: also on the confidence, and on the outlines."""
        reason = self.outlines.no_guarantee if self.outlines else None
        return self.notes + self.confidence_notes + ((NO_GUARANTEE_NOTE + reason,) if reason else ())


@dataclass(frozen=True)
class FrameResult:
    """A frame and its segmentation.

    decode_milliseconds: time from the uploaded bytes to pixels.
    """

    frame: Frame
    segmentation: FrameSegmentation
    decode_milliseconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the reader of the response, about the frame and about its segmentation."""
        return self.frame.notes + self.segmentation.all_notes

    def abstain_below(self, min_confidence: float) -> "FrameResult":
        """Return this result, or one without mask and answer if the expected Dice is below `min_confidence`, 0..1."""
        segmentation = self.segmentation
        if segmentation.expected_dice >= min_confidence:
            return self
        note = f"the answer is left out: its confidence is below {min_confidence:g}"
        abstained = dataclasses.replace(
            segmentation,
            mask=np.zeros_like(segmentation.mask),
            notes=(*segmentation.notes, note),
            abstained=True,
            outlines=None,
        )
        return dataclasses.replace(self, segmentation=abstained)


@dataclass(frozen=True)
class FrameFailure:
    """A frame without a segmentation, and the error.

    index: position in the cine, from 0.
    """

    index: int
    error: FrameError
