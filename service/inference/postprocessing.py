"""Postprocessing: from the network's probabilities to a mask."""

from collections.abc import Sequence

import cv2
import numpy as np

from service.inference.probability_histogram import (
    bin_lower_bound,
    calibrate_pixels,
    calibrated_bins,
    compute_histogram,
)
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import PostprocessingConfig

MIN_SAMPLE_PX = 128  # rows and columns of a frame that are enough for its histogram


def postprocess(probability: np.ndarray, presence: float, config: PostprocessingConfig) -> np.ndarray:
    """Return the mask with the greatest expected Dice, within the limits of `config`.

    The mask is uint8 (height, width), 0 or 255. It has no components below `min_peak_ratio`, and no more than
    `max_components`. It is empty if the calibrated presence or the mask's area is below its minimum.

    probability: float32 (height, width), 0..1, at the frame's own resolution.
    presence: 0..1, as the network gives it.
    config: limits and calibrations of the card.
    """
    if config.presence_calibration(presence) < config.min_presence:
        return np.zeros(probability.shape, np.uint8)
    threshold = optimal_threshold(probability, config.pixel_calibration)
    mask = _binarize(probability, threshold)
    peak_threshold = _peak_threshold(probability, config)
    if peak_threshold > threshold and len(_contours(mask)) > 1:
        mask = _components_with_peak(mask, _binarize(probability, peak_threshold))
    if config.max_components:
        _keep_largest(mask, config.max_components)
    if cv2.countNonZero(mask) < config.min_area_share * mask.size:
        mask[:] = 0
    return mask


def optimal_threshold(probability: np.ndarray, calibration: PlattScaling) -> np.float32:
    """Return the threshold of the mask with the greatest expected Dice.

    Assume that the calibrated probability of a pixel is the frequency of nerve. Then the best mask holds the pixels
    whose probability is at least half of the Dice that this mask is expected to reach (Lipton, Elkan and Naryanaswamy
    2014, theorem 1, for F1, which is Dice).

    probability: float32 (height, width), 0..1.
    calibration: from the network's mask probability to the probability that a pixel is nerve.
    """
    pixels = compute_histogram(_subsample(probability))[::-1]  # the most probable first
    mask_px = pixels.cumsum()
    nerve_px = (pixels * calibrated_bins(calibration)[::-1]).cumsum()
    expected_dice = 2 * nerve_px / (mask_px + nerve_px[-1])
    return bin_lower_bound(expected_dice.max() / 2, calibration)


def _peak_threshold(probability: np.ndarray, config: PostprocessingConfig) -> np.float32:
    """Return the probability that a component must reach in at least one pixel."""
    (highest,) = calibrate_pixels(probability.max(keepdims=True), config.pixel_calibration)
    return bin_lower_bound(config.min_peak_ratio * highest, config.pixel_calibration)


def _binarize(probability: np.ndarray, threshold: np.float32) -> np.ndarray:
    """Return uint8 (height, width): 255 where the probability is `threshold` or more, else 0."""
    return (probability >= threshold).view(np.uint8) * np.uint8(255)


def _components_with_peak(mask: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Return the connected components of `mask` that hold a pixel of `peaks`; all uint8 (height, width), 0 or 255."""
    for x, y in (contour[0, 0] for contour in _contours(peaks)):
        if mask[y, x] == 255:  # not yet filled from another peak of the same component
            cv2.floodFill(mask, None, (int(x), int(y)), 1, flags=8)
    return (mask == 1).view(np.uint8) * np.uint8(255)


def _subsample(image: np.ndarray) -> np.ndarray:
    """Return every n-th row and column, contiguous; at least MIN_SAMPLE_PX of each, if the image has them."""
    step = max(1, min(image.shape) // MIN_SAMPLE_PX)
    return np.ascontiguousarray(image[::step, ::step])


def _keep_largest(mask: np.ndarray, components: int) -> None:
    """Set all but the largest connected components to 0, in place. Size is the area inside a component's contour."""
    smaller = sorted(_contours(mask), key=cv2.contourArea)[:-components]
    cv2.drawContours(mask, smaller, -1, 0, cv2.FILLED)


def _contours(mask: np.ndarray) -> Sequence[np.ndarray]:
    """Return the outer contour of each connected component, int32 (points, 1, 2).

    This takes a tenth of the time of `cv2.connectedComponents`.
    """
    return cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
