"""Measure the training frames, so that the service can detect out-of-distribution frames."""

import numpy as np

from service.inference.out_of_distribution import image_features
from service.model.card import OutOfDistributionStats
from training.data.manifest import ManifestRow, read_frame

LIMIT_MARGIN = 0.95  # of the farthest training frame's distance; photographs begin there


def measure_training_frames(rows: list[ManifestRow]) -> OutOfDistributionStats:
    """Return the statistics of the frames' image features, as `fit_stats`."""
    frames = (read_frame(row) for row in rows)
    return fit_stats(np.stack([image_features(frame.content_box.crop(frame.pixels)) for frame in frames]))


def fit_stats(features: np.ndarray) -> OutOfDistributionStats:
    """Fit mean, whitening matrix and distance limit to image features, float64 (N, D), one row for each frame.

    The covariance is shrunk (Ledoit and Wolf 2004). The limit is LIMIT_MARGIN times the Mahalanobis distance of the
    farthest frame.
    """
    from sklearn.covariance import LedoitWolf

    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    precision = LedoitWolf(assume_centered=True).fit((features - mean) / deviation).precision_
    whitening = np.linalg.cholesky(precision).T / deviation
    farthest = np.linalg.norm((features - mean) @ whitening.T, axis=1).max()
    return OutOfDistributionStats(
        mean.round(6).tolist(), whitening.round(6).tolist(), round(float(farthest * LIMIT_MARGIN), 4)
    )
