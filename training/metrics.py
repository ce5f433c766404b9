"""How well a mask fits the truth. All masks are bool (height, width) of one frame, at the frame's own resolution."""

import numpy as np


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """2 |A n B| / (|A| + |B|), 1 where both are empty: the Kaggle competition's score, in 0..1."""
    pixels = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & truth) / pixels if pixels else 1.0


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """|A n B| / |A u B|, 1 where both are empty: in 0..1."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def hausdorff95(mask: np.ndarray, truth: np.ndarray) -> float:
    """The 95th percentile of the distances, in pixels, from each outline's pixels to the other outline.

    Both directions pooled, as in Taha and Hanbury 2015 (BMC Medical Imaging 15:29). NaN where either is empty:
    there is no distance to nothing.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    if not mask.any() or not truth.any():
        return float("nan")
    outlines = [shape & ~binary_erosion(shape) for shape in (mask, truth)]
    to_mask, to_truth = (distance_transform_edt(~outline) for outline in outlines)
    return float(np.percentile(np.concatenate([to_truth[outlines[0]], to_mask[outlines[1]]]), 95))
