"""What a net must beat to have learnt anything: the empty mask, and the training masks' mean mask."""

from dataclasses import dataclass

import cv2
import numpy as np
from rich.progress import track

from training.metrics import dice
from training.sources.layout import FRAMES, NERVE, Row, read_labels

SIZE = (105, 145)  # height and width at which masks are averaged: a quarter of a Kaggle frame's
LEVELS = np.arange(0.05, 1.0, 0.05)


@dataclass(frozen=True)
class MeanMask:
    """The mean of the training masks, float32 SIZE in 0..1, cut at the level that fits the training masks best."""

    mean: np.ndarray
    level: float

    @classmethod
    def of(cls, rows: list[Row]) -> "MeanMask":
        """From the training frames' masks; the level is chosen among LEVELS by their mean Dice."""
        masks = np.stack([_stretched(read_labels(FRAMES, row) == NERVE) for row in track(rows, "mean mask")])
        mean = masks.mean(axis=0)
        scores = [np.mean([dice(mean >= level, mask >= 0.5) for mask in masks]) for level in LEVELS]
        return cls(mean, float(LEVELS[int(np.argmax(scores))]))

    def at(self, height: int, width: int) -> np.ndarray:
        """The baseline's mask for a frame: bool (height, width)."""
        return cv2.resize(self.mean, (width, height), interpolation=cv2.INTER_LINEAR) >= self.level


def _stretched(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_AREA)
