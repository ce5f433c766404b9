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
    return (looks(rows) @ looks(among).T).max(axis=1) > ALIKE


def leakage(looked: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """How much folds leak: the share of frames with a twin outside their fold, and the median correlation with the
    likest frame there; for comparison, the same where frames are dealt out at random, as some papers do.

    looked: what `looks` gives, float32 (N, pixels). folds: int (N,), the fold in which each frame is held out.
    """
    alike, found = looked @ looked.T, {}
    for name, dealt in (("", folds), ("_at_random", np.random.default_rng(1).permutation(folds))):
        likest = np.where(dealt[:, np.newaxis] == dealt, -1.0, alike).max(axis=1)
        found[f"twins{name}"] = round(float((likest > ALIKE).mean()), 4)
        found[f"likest{name}"] = round(float(np.median(likest)), 4)
    return found


def looks(rows: list[Row]) -> np.ndarray:
    """What is lit of each frame, small, of mean 0 and length 1: float32 (N, pixels). Two of them multiplied
    correlate."""
    return np.stack([_look(row) for row in track(rows, "twins")])


def _look(row: Row) -> np.ndarray:
    frame = read_frame(FRAMES, row)
    small = cv2.resize(frame.lit.of(frame.pixels), SIZE, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)
