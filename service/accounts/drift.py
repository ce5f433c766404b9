"""How far the frames that come are from those the champion was trained on, as its card tells them."""

import threading

import cv2

from service.accounts.metrics import DRIFT
from service.card import Card, log_odds
from service.frame import Frame
from service.segmenter import Seen

MEMORY_FRAMES = 200  # an average over about as many of the latest
LEAST_FRAMES = 30  # before a distance is shown
LEAST_DEVIATION = 1e-3
PRESENCE_RATE, RARE = "presence_rate", 0.01


def intensity(frame: Frame) -> tuple[float, float]:
    """Mean and standard deviation of the scan area's grey values, on the scale of 0..255."""
    mean, deviation = cv2.meanStdDev(frame.scan)
    depth = 257 if frame.pixels.itemsize == 2 else 1
    return float(mean[0, 0]) / depth, float(deviation[0, 0]) / depth


class Drift:
    """Of one champion, in one worker; used from several threads.

    A distance is |average - the card's mean| in the card's deviations from frame to frame; of the presence rate, which
    has no room for many of those, |ln p / (1 - p) - ln q / (1 - q)|, rates kept RARE away from never and always.
    """

    def __init__(self, card: Card):
        usual = card.usual
        self.expected: dict[str, tuple[float, float]] = {}
        self.averages: dict[str, tuple[float, int]] = {}
        self.lock = threading.Lock()
        if usual:
            spreads = {
                "intensity_mean": usual.intensity_mean,
                "intensity_deviation": usual.intensity_deviation,
                "confidence": usual.confidence,
            }
            self.expected = {name: (spread.mean, spread.deviation) for name, spread in spreads.items() if spread}
            self.expected[PRESENCE_RATE] = usual.presence_rate, 1.0

    def see(self, seen: Seen) -> None:
        """One frame more."""
        mean, deviation = intensity(seen.frame)
        values = {
            "intensity_mean": mean,
            "intensity_deviation": deviation,
            PRESENCE_RATE: float(seen.found.present),
            "confidence": seen.found.confidence,
        }
        with self.lock:
            for name, value in values.items():
                if name in self.expected and value is not None:
                    self._average(name, value)

    def _average(self, name: str, value: float) -> None:
        average, count = self.averages.get(name, (0.0, 0))
        count += 1
        average += (value - average) / min(count, MEMORY_FRAMES)
        self.averages[name] = average, count
        if count >= LEAST_FRAMES:
            mean, deviation = self.expected[name]
            if name == PRESENCE_RATE:
                average, mean = (log_odds(min(max(rate, RARE), 1 - RARE)) for rate in (average, mean))
            DRIFT.labels(name).set(abs(average - mean) / max(deviation, LEAST_DEVIATION))

    def forget(self) -> None:
        """Another champion has a drift of its own: until it has seen enough, none is shown."""
        for name in self.expected:
            DRIFT.labels(name).set(0)
