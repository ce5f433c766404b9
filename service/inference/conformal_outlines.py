"""An inner and an outer outline of the nerve around each mask, with a guarantee.

Split conformal prediction (Papadopoulos et al. 2002): margins that are wide enough for a share of the calibration
frames are wide enough for about the same share of new frames like them. It is conformal risk control (Angelopoulos,
Bates, Fisch, Lei and Schuster 2022, arXiv 2208.02814) with a loss of 0 or 1 for each frame.
`training.evaluation.conformal_outlines_fit` fits the margins.
"""

from dataclasses import replace

import numpy as np

from service.inference.postprocessing import optimal_threshold
from service.inference.probability_histogram import bin_lower_bound, calibrate_pixels
from service.inference.segmentation_result import FrameSegmentation, Outlines
from service.model.platt_scaling import PlattScaling, log_odds
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig

NO_OUTLINES_NOTE = "the model has no outlines: its validation frames were too few for a guarantee"
NOT_GUARANTEED_NOTE = "the guarantee of the outlines does not hold for this frame"


def add_outlines(
    segmentation: FrameSegmentation, probability: np.ndarray, config: PostprocessingConfig, is_smoothed: bool
) -> FrameSegmentation:
    """Return the segmentation with the outlines of its mask, and with a note if they are not guaranteed.

    There is no guarantee for a frame that is out of distribution or has a low confidence, and none for smoothed masks:
    the calibration frames are single ones. An empty mask has no outlines.

    segmentation: of the probabilities; its notes say whether the frame is out of distribution.
    probability: float32 (height, width), 0..1, as `postprocess` gets it.
    """
    margins = config.outlines
    if margins is None:
        return replace(segmentation, notes=(*segmentation.notes, NO_OUTLINES_NOTE))
    if segmentation.confidence is None:
        return segmentation
    outer, inner = find_outlines(probability, segmentation.mask, config.pixel_calibration, margins)
    guaranteed = not is_smoothed and not segmentation.notes and segmentation.confidence >= margins.min_confidence
    notes = segmentation.notes if guaranteed else (*segmentation.notes, NOT_GUARANTEED_NOTE)
    return replace(segmentation, notes=notes, outlines=Outlines(outer, inner, guaranteed))


def find_outlines(
    probability: np.ndarray, mask: np.ndarray, calibration: PlattScaling, margins: ConformalOutlines
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outer and the inner region of a mask: uint8 (height, width), 0 or 255. inner <= mask <= outer.

    probability: float32 (height, width), 0..1, as `postprocess` gets it. mask: what it returns. calibration: of pixels.
    """
    threshold = threshold_log_odds(probability, calibration)
    outer = probability >= _probability(threshold - margins.outer_margin, calibration)
    inner = probability >= _probability(threshold + margins.inner_margin, calibration)
    return outer.view(np.uint8) * np.uint8(255) | mask, inner.view(np.uint8) * np.uint8(255) & mask


def threshold_log_odds(probability: np.ndarray, calibration: PlattScaling) -> float:
    """Return the mask's threshold as log-odds of the calibrated probability."""
    (threshold,) = calibrate_pixels(np.array([optimal_threshold(probability, calibration)]), calibration)
    return log_odds(float(threshold))


def _probability(calibrated_log_odds: float, calibration: PlattScaling) -> np.float32:
    """Return the network's probability with these calibrated log-odds."""
    return bin_lower_bound(1 / (1 + np.exp(-calibrated_log_odds)), calibration)
