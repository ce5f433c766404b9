"""Calibrate probabilities: fit Platt scaling on validation frames, measure the calibration error on test frames."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from service.inference.probability_histogram import calibrated_bins, compute_histogram
from service.model.platt_scaling import PlattScaling, log_odds

ERROR_BINS = 10
MIN_FRAMES = 10  # fewer frames fit two parameters to chance
PIXEL_SLOPE_RANGE = (0.1, 10.0)  # where pixels are separable, as on toy frames, the best slope is infinite


def fit_platt_scaling(predicted: np.ndarray, target: np.ndarray) -> PlattScaling:
    """Fit the map from predicted probabilities to targets, both float (N,), 0..1.

    A target is 0 or 1 (Platt 1999), or a share such as a Dice (fractional logit: Papke and Wooldridge 1996). As in
    Platt, targets stay away from 0 and 1, so that the slope is finite on separable frames. The slope has a normal prior
    with mean 1 and standard deviation 1: nearly equal predictions do not determine a slope.
    """
    count = len(predicted)
    odds = np.array([log_odds(float(probability)) for probability in predicted])
    targets = np.clip(target, 1 / (count + 2), 1 - 1 / (count + 2))

    def loss(parameters: np.ndarray) -> float:
        slope, intercept = parameters
        logits = slope * odds + intercept
        return float(np.sum(np.logaddexp(0, logits) - targets * logits) + (slope - 1) ** 2 / 2)

    return _minimize(loss, bounds=[(0, None), (None, None)])


def fit_presence(predicted: np.ndarray, nerve: np.ndarray) -> PlattScaling:
    """Fit the map from predicted presence, float (N,), to the probability of a nerve.

    Return the identity if there are fewer than MIN_FRAMES frames, or if all or none of them show a nerve.

    nerve: bool (N,).
    """
    if nerve.all() or not nerve.any():
        print("presence is not calibrated: this needs validation frames with and without a nerve")
        return PlattScaling()
    if _warn_if_too_few("presence", len(predicted), "frames"):
        return PlattScaling()
    return fit_platt_scaling(predicted, nerve.astype(float))


def fit_confidence(mean_probability: np.ndarray, dice: np.ndarray) -> PlattScaling:
    """Fit the map from a mask's mean probability to its Dice, both float (N,), 0..1.

    Return the identity if there are fewer than MIN_FRAMES masks.
    """
    if _warn_if_too_few("confidence", len(mean_probability), "masks"):
        return PlattScaling()
    return fit_platt_scaling(mean_probability, dice)


def pixel_histograms(probability: np.ndarray, nerve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the histograms of the frame's pixels without and with nerve, as shares of all its pixels.

    probability: float32 (height, width), 0..1.
    nerve: bool (height, width).
    """
    background, foreground = (compute_histogram(probability[pixels]) for pixels in (~nerve, nerve))
    return background / nerve.size, foreground / nerve.size


def fit_pixels(histograms: list[tuple[np.ndarray, np.ndarray]]) -> PlattScaling:
    """Fit the map from a pixel's predicted probability to the frequency of nerve.

    Return the identity if there are fewer than MIN_FRAMES frames, or if no pixel is nerve.

    histograms: `pixel_histograms` of each frame.
    """
    background, foreground = (np.sum(counts, axis=0) for counts in zip(*histograms, strict=True))
    if _warn_if_too_few("pixel probability", len(histograms), "frames") or not foreground.any():
        return PlattScaling()
    filled = np.flatnonzero(background + foreground)
    probability = calibrated_bins(PlattScaling())[filled]
    odds = np.log(probability / (1 - probability))

    def loss(parameters: np.ndarray) -> float:
        slope, intercept = parameters
        logits = slope * odds + intercept
        return float(np.logaddexp(0, logits) @ background[filled] + np.logaddexp(0, -logits) @ foreground[filled])

    return _minimize(loss, bounds=[PIXEL_SLOPE_RANGE, (None, None)], method="Nelder-Mead")


def _minimize(
    loss: Callable[[np.ndarray], float], bounds: list[tuple[float | None, float | None]], method: str | None = None
) -> PlattScaling:
    """Return slope and intercept with the least loss, to four decimals. The search starts at the identity."""
    slope, intercept = minimize(loss, (1.0, 0.0), method=method, bounds=bounds).x
    return PlattScaling(round(float(slope), 4), round(float(intercept), 4))


def _warn_if_too_few(name: str, count: int, unit: str) -> bool:
    """Return whether `count` is below MIN_FRAMES, and print it if so."""
    if count < MIN_FRAMES:
        print(f"{name} is not calibrated: validation has {count} {unit}, calibration needs at least {MIN_FRAMES}")
    return count < MIN_FRAMES


def expected_calibration_error(predicted: np.ndarray, nerve: np.ndarray) -> float:
    """Return the expected calibration error (Naeini et al. 2015), 0..1, over ERROR_BINS bins of equal width.

    predicted: float (N,), 0..1.
    nerve: bool (N,).
    """
    bins = np.minimum((predicted * ERROR_BINS).astype(int), ERROR_BINS - 1)
    gaps = np.bincount(bins, predicted, ERROR_BINS) - np.bincount(bins, nerve, ERROR_BINS)  # weighted by frame count
    return float(np.abs(gaps).sum() / len(predicted))
