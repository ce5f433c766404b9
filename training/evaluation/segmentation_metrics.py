"""Metrics of a mask against the truth. Masks are bool (height, width), at the frame's own resolution."""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return 2 |A n B| / (|A| + |B|), 0..1, and 1 if both masks are empty: the score of the Kaggle competition."""
    pixels = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & truth) / pixels if pixels else 1.0


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return |A n B| / |A u B|, 0..1, and 1 if both masks are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def hausdorff95(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return the 95th percentile, in pixels, of the distances from each outline's pixels to the other outline.

    The distances of both directions are pooled, as in Taha and Hanbury 2015 (BMC Medical Imaging 15:29). Return NaN if
    either mask is empty, because the distance does not exist.
    """
    if not mask.any() or not truth.any():
        return float("nan")
    mask_outline, truth_outline = (shape & ~binary_erosion(shape) for shape in (mask, truth))
    distance_to_mask, distance_to_truth = distance_transform_edt(~mask_outline), distance_transform_edt(~truth_outline)
    distances = np.concatenate([distance_to_truth[mask_outline], distance_to_mask[truth_outline]])
    return float(np.percentile(distances, 95))
