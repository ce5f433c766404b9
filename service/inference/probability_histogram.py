"""Count pixels by probability, in bins that are fine enough for calibration and thresholds."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.model.platt_scaling import PlattScaling

_DROPPED_BITS = 16  # of a float32; a bin is then narrower than a hundredth of its probability
_LAST_BIN = int(np.float32(1).view(np.uint32)) >> _DROPPED_BITS


@dataclass(frozen=True, eq=False)
class ProbabilityHistogram:
    """Pixels, counted by probability.

    counts: (BIN_COUNT,), pixels or shares of pixels in each bin, from probability 0 to 1.

    A bin holds all float32 probabilities with the same leading bits. The bin of a pixel costs one shift, and a
    calibration is a table with one entry per bin.
    """

    counts: np.ndarray

    BIN_COUNT = _LAST_BIN + 1

    @classmethod
    def of(cls, probability: np.ndarray) -> "ProbabilityHistogram":
        """Count the pixels of a float32 array of any shape, 0..1. The counts are int64."""
        return cls(np.bincount(cls.bins(probability), minlength=cls.BIN_COUNT))

    @staticmethod
    def bins(probability: np.ndarray) -> np.ndarray:
        """Return the bin of each pixel, uint32 (pixels,), 0..BIN_COUNT - 1. probability: float32, any shape, 0..1."""
        return probability.reshape(-1).view(np.uint32) >> _DROPPED_BITS

    @staticmethod
    @lru_cache(maxsize=8)
    def calibrated(scaling: PlattScaling) -> np.ndarray:
        """Return the calibrated probability at the middle of each bin, ascending, float64 (BIN_COUNT,)."""
        first = np.arange(_LAST_BIN + 1, dtype=np.uint32) << _DROPPED_BITS
        middle = first | 1 << (_DROPPED_BITS - 1)
        return scaling.calibrate_array(np.minimum(middle.view(np.float32), 1))

    @classmethod
    def calibrate(cls, probability: np.ndarray, scaling: PlattScaling) -> np.ndarray:
        """Return the calibrated probability of each pixel, float64 (pixels,). probability: float32, any shape, 0..1."""
        return cls.calibrated(scaling)[cls.bins(probability)]

    @classmethod
    def lower_bound(cls, calibrated_probability: float, scaling: PlattScaling) -> np.float32:
        """Return the lower bound of the first bin whose calibrated probability is `calibrated_probability` or more.

        If no bin reaches it, return the lower bound of the last bin, which is 1.
        """
        first_bin = min(int(np.searchsorted(cls.calibrated(scaling), calibrated_probability)), _LAST_BIN)
        return np.float32(np.uint32(first_bin << _DROPPED_BITS).view(np.float32))
