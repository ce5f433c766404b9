"""The baseline mean mask: the average of the training frames' masks. The second baseline is the empty mask."""

from dataclasses import dataclass

import cv2
import numpy as np
from rich.progress import track

from training.data.manifest import ManifestRow, read_nerve_mask
from training.evaluation.segmentation_metrics import dice

SIZE_PX = (105, 145)  # height and width at which masks are averaged: a quarter of a Kaggle frame's
THRESHOLDS = np.arange(0.05, 1.0, 0.05)


@dataclass(frozen=True)
class MeanMask:
    """The mean of the training masks, and the threshold that gives the best mean Dice on them.

    mean: float32 SIZE_PX, 0..1.
    threshold: one of THRESHOLDS.
    """

    mean: np.ndarray
    threshold: float

    @classmethod
    def fit(cls, rows: list[ManifestRow]) -> "MeanMask":
        """Average the masks of the training frames and choose the threshold."""
        masks = np.stack([_resize(read_nerve_mask(row)) for row in track(rows, "mean mask")])
        mean = masks.mean(axis=0)
        scores = [np.mean([dice(mean >= threshold, mask >= 0.5) for mask in masks]) for threshold in THRESHOLDS]
        return cls(mean, float(THRESHOLDS[int(np.argmax(scores))]))

    def predict(self, height: int, width: int) -> np.ndarray:
        """Return the mask for a frame of this size in pixels: bool (height, width)."""
        return cv2.resize(self.mean, (width, height), interpolation=cv2.INTER_LINEAR) >= self.threshold


def _resize(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), SIZE_PX[::-1], interpolation=cv2.INTER_AREA)
