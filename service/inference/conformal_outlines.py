"""An inner and an outer outline of the nerve around each mask, with a guarantee.

Conformal prediction (Vovk, Gammerman and Shafer 2005): margins that were wide enough for a share of the calibration
frames are wide enough for about the same share of new frames like them. It is conformal risk control (Angelopoulos,
Bates, Fisch, Lei and Schuster 2022, arXiv 2208.02814) with a loss of 0 or 1 for each frame.
`training.evaluation.conformal_outlines_fit` fits the margins.
"""

from dataclasses import replace

import numpy as np

from service.inference.postprocessing import optimal_threshold
from service.inference.probability_histogram import BIN_COUNT, DROPPED_BITS, bin_indices, log_odds_bins
from service.inference.segmentation_result import FrameSegmentation, Outlines
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig

NO_OUTLINES_NOTE = "the model has no outlines"


def add_outlines(
    segmentation: FrameSegmentation, probability: np.ndarray, config: PostprocessingConfig, no_guarantee: str | None
) -> FrameSegmentation:
    """Return the segmentation with the outlines of its mask. An empty mask has none.

    probability: float32 (height, width), 0..1, as `postprocess` gets it.
    no_guarantee: why the guarantee does not hold, whatever the confidence; None if nothing speaks against it.
    """
    margins = config.outlines
    if margins is None:
        return replace(segmentation, notes=(*segmentation.notes, NO_OUTLINES_NOTE))
    if segmentation.confidence is None:
        return segmentation
    if no_guarantee is None and segmentation.confidence < margins.min_confidence:
        no_guarantee = f"the confidence is below {margins.min_confidence:g}"
    outer, inner = find_outlines(probability, segmentation.mask, config.pixel_calibration, margins)
    return replace(segmentation, outlines=Outlines(outer, inner, no_guarantee))


def find_outlines(
    probability: np.ndarray, mask: np.ndarray, calibration: PlattScaling, margins: ConformalOutlines
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outer and the inner region of a mask: uint8 (height, width), 0 or 255. inner <= mask <= outer.

    probability: float32 (height, width), 0..1, as `postprocess` gets it. mask: what it returns. calibration: of pixels.
    """
    threshold = threshold_log_odds(probability, calibration)
    outer = probability >= _lower_bound(threshold - margins.outer_margin, calibration)
    inner = probability >= _lower_bound(threshold + margins.inner_margin, calibration)
    return outer.view(np.uint8) * np.uint8(255) | mask, inner.view(np.uint8) * np.uint8(255) & mask


def threshold_log_odds(probability: np.ndarray, calibration: PlattScaling) -> float:
    """Return the log-odds of the calibrated probability at the mask's threshold."""
    (index,) = bin_indices(np.array([optimal_threshold(probability, calibration)]))
    return float(log_odds_bins(calibration)[index])


def _lower_bound(log_odds: float, calibration: PlattScaling) -> np.float32:
    """Return the lowest probability of the network whose calibrated log-odds are at least this; infinity if none is."""
    first_bin = int(np.searchsorted(log_odds_bins(calibration), log_odds))
    if first_bin == BIN_COUNT:
        return np.float32(np.inf)
    return np.float32(np.uint32(first_bin << DROPPED_BITS).view(np.float32))
