"""The frame rate of a cine (Cine module, PS3.3 C.7.6.5)."""

import statistics
from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from service.decoding.frame import MAX_FRAME_RATE_HZ, MIN_FRAME_RATE_HZ

# Elements that hold the rate, the most reliable first, each with the conversion to frames per second.
FRAME_RATE_ELEMENTS: dict[str, Callable[[Any], float]] = {
    "RecommendedDisplayFrameRate": float,
    "CineRate": float,
    "FrameTime": lambda milliseconds: 1000 / float(milliseconds),
    "FrameTimeVector": lambda increments: 1000 / statistics.fmean(increments[1:]),  # the first increment is 0
}


def read_frame_rate(header: Dataset) -> float | None:
    """Return the frames per second of the cine, 0.1 to 1000; None if the header has no such number."""
    for keyword, to_rate in FRAME_RATE_ELEMENTS.items():
        try:
            rate = round(to_rate(header[keyword].value), 2)
        except Exception:  # a header may hold values of any type
            continue
        if MIN_FRAME_RATE_HZ <= rate <= MAX_FRAME_RATE_HZ:
            return rate
    return None
