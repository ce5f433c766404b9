"""Count pixels by probability, in bins that are fine enough for calibration and thresholds.

A bin holds all float32 probabilities with the same leading bits. The bin of a pixel costs one shift, and a calibration
is a table with one entry per bin.
"""

from functools import lru_cache

import numpy as np

from service.model.platt_scaling import PlattScaling

DROPPED_BITS = 16  # of a float32; a bin is then narrower than a hundredth of its probability
LAST_BIN = int(np.float32(1).view(np.uint32)) >> DROPPED_BITS
BIN_COUNT = LAST_BIN + 1


def compute_histogram(probability: np.ndarray) -> np.ndarray:
    """Return the number of pixels in each bin, int64 (BIN_COUNT,).

    probability: float32, any shape, 0..1.
    """
    return np.bincount(bin_indices(probability), minlength=BIN_COUNT)


def bin_indices(probability: np.ndarray) -> np.ndarray:
    """Return the bin of each pixel, uint32 (pixels,), 0..BIN_COUNT - 1.

    probability: float32, any shape, 0..1.
    """
    return probability.reshape(-1).view(np.uint32) >> DROPPED_BITS


@lru_cache(maxsize=8)
def calibrated_bins(scaling: PlattScaling) -> np.ndarray:
    """Return the calibrated probability at the middle of each bin, ascending, float64 (BIN_COUNT,)."""
    return scaling.calibrate_array(_bin_middles())


@lru_cache(maxsize=8)
def log_odds_bins(scaling: PlattScaling) -> np.ndarray:
    """Return the log-odds of `calibrated_bins`, ascending, float64 (BIN_COUNT,). They are finite for 0 and 1, too."""
    return scaling.log_odds_array(_bin_middles())


def _bin_middles() -> np.ndarray:
    first = np.arange(BIN_COUNT, dtype=np.uint32) << DROPPED_BITS
    middle = first | 1 << (DROPPED_BITS - 1)
    return np.minimum(middle.view(np.float32), 1)


def calibrate_pixels(probability: np.ndarray, scaling: PlattScaling) -> np.ndarray:
    """Return the calibrated probability of each pixel, float64 (pixels,).

    probability: float32, any shape, 0..1.
    """
    return calibrated_bins(scaling)[bin_indices(probability)]


def bin_lower_bound(calibrated_probability: float, scaling: PlattScaling) -> np.float32:
    """Return the lower bound of the first bin whose calibrated probability is `calibrated_probability` or more.

    If no bin reaches it, return the lower bound of the last bin, which is 1.
    """
    first_bin = min(int(np.searchsorted(calibrated_bins(scaling), calibrated_probability)), LAST_BIN)
    return np.float32(np.uint32(first_bin << DROPPED_BITS).view(np.float32))
