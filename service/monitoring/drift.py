"""Drift: how far the recent frames are from the frames that the champion was trained on, as its card describes them."""

import threading

import cv2

from service.decoding.frame import Frame
from service.inference.segmentation_result import FrameResult
from service.model.card import Card
from service.model.platt_scaling import log_odds
from service.monitoring.prometheus_metrics import DRIFT

AVERAGE_FRAMES = 200  # each new frame has at least this share, 1 / AVERAGE_FRAMES, in the average
MIN_FRAMES = 30  # before drift is reported
MIN_STD = 1e-3
PRESENCE_RATE = "presence_rate"
DriftFeatures = dict[str, float | None]
MIN_PRESENCE_RATE = 0.01  # rates are clipped to MIN_PRESENCE_RATE..1 - MIN_PRESENCE_RATE, so their log-odds stay finite


def intensity_mean_std(frame: Frame) -> tuple[float, float]:
    """Return the mean and standard deviation of the scan area's grey values, on the scale of 0..255."""
    mean, std = cv2.meanStdDev(frame.scan_pixels)
    scale = 257 if frame.pixels.itemsize == 2 else 1
    return float(mean[0, 0]) / scale, float(std[0, 0]) / scale


def drift_features(result: FrameResult) -> DriftFeatures:
    """Return what drift is measured of, by name."""
    mean, std = intensity_mean_std(result.frame)
    return {
        "intensity_mean": mean,
        "intensity_deviation": std,
        PRESENCE_RATE: float(result.segmentation.confidence is not None),
        "confidence": result.segmentation.confidence,
    }


class Drift:
    """Drift of the frames of one champion in one worker, as Prometheus gauges. Thread-safe.

    The drift of a feature is |average - mean| / std, with the mean and standard deviation from the card. The presence
    rate p has no standard deviation: its drift is |logit p - logit q|, with the card's rate q.
    """

    def __init__(self, card: Card):
        reference = card.reference_stats
        self.expected: dict[str, tuple[float, float]] = {}  # mean and standard deviation by feature
        self.averages: dict[str, tuple[float, int]] = {}  # average and number of frames by feature
        self.lock = threading.Lock()
        if reference:
            stats = {
                "intensity_mean": reference.intensity_mean,
                "intensity_deviation": reference.intensity_deviation,
                "confidence": reference.confidence,
            }
            self.expected = {feature: (spread.mean, spread.std) for feature, spread in stats.items() if spread}
            self.expected[PRESENCE_RATE] = reference.presence_rate, 1.0

    def update(self, features: DriftFeatures) -> None:
        """Add a frame to the averages and set the gauges. features: of `drift_features`."""
        with self.lock:
            for feature, value in features.items():
                if feature in self.expected and value is not None:
                    self._update_feature(feature, value)

    def reset(self) -> None:
        """Set all gauges to 0: the next champion has its own drift, and reports it after MIN_FRAMES frames."""
        for feature in self.expected:
            DRIFT.labels(feature).set(0)

    def _update_feature(self, feature: str, value: float) -> None:
        average, count = self.averages.get(feature, (0.0, 0))
        count += 1
        average += (value - average) / min(count, AVERAGE_FRAMES)
        self.averages[feature] = average, count
        if count >= MIN_FRAMES:
            mean, std = self.expected[feature]
            if feature == PRESENCE_RATE:
                average, mean = (
                    log_odds(min(max(rate, MIN_PRESENCE_RATE), 1 - MIN_PRESENCE_RATE)) for rate in (average, mean)
                )
            DRIFT.labels(feature).set(abs(average - mean) / max(std, MIN_STD))
