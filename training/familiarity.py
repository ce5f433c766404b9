"""What the champion's training frames look like, so that the service can say when a frame does not."""

import numpy as np

from service.card import Familiar
from service.familiar import looks
from training.sources.layout import FRAMES, Row, read_frame

MARGIN = 0.95  # of the farthest training frame's distance; the first photographs lie there (docs/accuracy.md)


def learn(rows: list[Row]) -> Familiar:
    """From training frames: the mean and covariance of their looks (shrunk: Ledoit and Wolf 2004), and the limit,
    MARGIN times the distance of the farthest of them."""
    frames = (read_frame(FRAMES, row) for row in rows)
    return familiar(np.stack([looks(frame.lit.of(frame.pixels)) for frame in frames]))


def familiar(looked: np.ndarray) -> Familiar:
    """The same from what `service.familiar.looks` gave: float64 (N, D)."""
    from sklearn.covariance import LedoitWolf

    mean, deviation = looked.mean(axis=0), looked.std(axis=0) + 1e-6
    precision = LedoitWolf(assume_centered=True).fit((looked - mean) / deviation).precision_
    whitening = np.linalg.cholesky(precision).T / deviation
    farthest = np.linalg.norm((looked - mean) @ whitening.T, axis=1).max()
    return Familiar(mean.round(6).tolist(), whitening.round(6).tolist(), round(float(farthest * MARGIN), 4))
