"""The results of segmentation: of a frame, and of a frame that cannot be decoded."""

from dataclasses import dataclass

import numpy as np

from service.decoding.frame import Frame
from service.errors import FrameError


@dataclass(frozen=True)
class FrameSegmentation:
    """The mask of a frame and its scores.

    mask: uint8 (height, width) at the frame's own size, 0 or 255.
    presence: probability that the frame shows a nerve, 0..1.
    confidence: expected Dice of the mask, 0..1; None for an empty mask.
    milliseconds: time from preprocessing to the mask.
    notes: sentences for the reader of the response.
    """

    mask: np.ndarray
    presence: float
    confidence: float | None
    milliseconds: float
    notes: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the mask shows a nerve."""
        return self.confidence is not None


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
        return self.frame.notes + self.segmentation.notes


@dataclass(frozen=True)
class FrameFailure:
    """A frame without a segmentation, and the error.

    index: position in the cine, from 0.
    """

    index: int
    error: FrameError
