"""How much folds leak: how near held-out frames come to frames that were learnt."""

import cv2
import numpy as np

from training.sources.layout import FRAMES, Row, read_frame
from training.split import NEAR, block_histogram

SIZE = (580, 420)  # width and height at which frames of any size are compared


def look(row: Row) -> np.ndarray:
    """The frame's block histogram, float32 (D,), at one size for all."""
    pixels = read_frame(FRAMES, row).pixels
    return block_histogram(cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA))


def leakage(looked: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """How much the folds leak: median distance to the nearest frame outside the fold, and share nearer than NEAR; for
    comparison, the same where frames are dealt out at random, as some papers do.

    looked: float32 (N, D). folds: int (N,), the fold in which each frame is held out.
    """
    found = {}
    for name, dealt in (("", folds), ("_at_random", np.random.default_rng(1).permutation(folds))):
        apart = np.concatenate([nearest(looked, dealt == fold) for fold in np.unique(dealt)])
        found[f"nearest{name}"] = round(float(np.median(apart)), 5)
        found[f"nearly_the_same{name}"] = round(float((apart < NEAR).mean()), 4)
    return found


def nearest(looked: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """How near each held-out frame comes to any other: the least cosine distance of their histograms, float (M,).

    looked: float32 (N, D). held_out: bool (N,).
    """
    from sklearn.metrics.pairwise import cosine_distances

    return cosine_distances(looked[held_out], looked[~held_out]).min(axis=1)
