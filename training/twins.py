"""Which frames have a near twin elsewhere, whose mask could be copied.

Where a data set tells no subjects, frames of one scan may stand on both sides of a split: a net that knows the twin has
an easy task.
"""

import cv2
import numpy as np
from rich.progress import track

from training.sources.layout import FRAMES, Row, read_frame

SIZE = (64, 48)  # width and height at which frames are compared
ALIKE = 0.8  # correlation of two frames' grey values


def have_twin(rows: list[Row], among: list[Row]) -> np.ndarray:
    """Whether each of `rows` looks like one of `among`: bool (N,)."""
    looked, others = (np.stack([_look(row) for row in track(side, "twins")]) for side in (rows, among))
    return (looked @ others.T).max(axis=1) > ALIKE


def _look(row: Row) -> np.ndarray:
    """What is lit of a frame, small, of mean 0 and length 1: float32 (pixels,). Two of them multiplied correlate."""
    frame = read_frame(FRAMES, row)
    small = cv2.resize(frame.lit.of(frame.pixels), SIZE, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)
