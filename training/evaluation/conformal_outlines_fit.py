"""Fit the margins of the outlines on validation frames, and measure on other frames whether the guarantee holds.

`service.inference.conformal_outlines` draws the outlines and names the method.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from service.inference.conformal_outlines import find_outlines, threshold_log_odds
from service.inference.probability_histogram import calibrate_pixels
from service.inference.segmentation_result import MIN_CONFIDENCE
from service.inference.segmenter import build_segmentation
from service.model.platt_scaling import MIN_PROBABILITY, PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.evaluation.inference import Network, map_rows

COVERAGE, LEVEL = 0.9, 0.9  # of ConformalOutlines
MARGIN_DIGITS = 4  # margins are rounded up
ROUNDING = 1e-6  # log-odds; a pixel exactly at a margin is outside the inner outline


def fit_outlines(network: Network, rows: list[ManifestRow], config: PostprocessingConfig) -> ConformalOutlines | None:
    """Return the margins for masks with an expected Dice of at least MIN_CONFIDENCE, from the rows with such a mask.

    None if they are fewer than 1 / (1 - LEVEL) - 1: then no margin is wide enough.
    """

    def measure(row: ManifestRow) -> tuple[float, float] | None:
        probability, presence = network(read_frame(row))
        segmentation = build_segmentation(probability, presence, config)
        if segmentation.confidence is None or segmentation.confidence < MIN_CONFIDENCE:
            return None
        return needed_margins(probability, segmentation.mask, read_nerve_mask(row), config.pixel_calibration)

    needed = [margins for margins in map_rows(measure, rows, "outlines") if margins]
    outer = conformal_quantile([outer for outer, _ in needed])
    inner = conformal_quantile([inner for _, inner in needed])
    if outer is None or inner is None:
        return None
    return ConformalOutlines(outer, inner, COVERAGE, LEVEL, MIN_CONFIDENCE, frames=len(needed))


def needed_margins(
    probability: np.ndarray, mask: np.ndarray, truth: np.ndarray, calibration: PlattScaling
) -> tuple[float, float]:
    """Return the smallest outer and inner margin, in log-odds, that give this frame the COVERAGE.

    Each larger margin gives it, too. Without a nerve nothing is missed, and the inner region has to be empty.

    probability: float32 (height, width), 0..1. mask: its mask, uint8 (height, width), not empty.
    truth: the nerve, bool (height, width). calibration: of pixels.
    """
    pixels = _log_odds(calibrate_pixels(probability, calibration)).reshape(probability.shape)
    threshold = threshold_log_odds(probability, calibration)
    outer = 0.0
    if truth.any():
        inside = np.where(mask > 0, np.inf, pixels)[truth]  # the outer region holds the whole mask
        enough = math.ceil(COVERAGE * inside.size)
        outer = max(0.0, threshold - float(np.sort(inside)[-enough]))
    order = np.argsort(-pixels[mask > 0], kind="stable")
    values, is_nerve = pixels[mask > 0][order], truth[mask > 0][order]
    share = np.cumsum(is_nerve) / np.arange(1, values.size + 1)
    is_last = np.append(values[1:] < values[:-1], True)  # of the pixels with one value: an outline holds all or none
    too_little = values[is_last & (share < COVERAGE)]
    inner = max(0.0, float(too_little.max()) - threshold + ROUNDING) if too_little.size else 0.0
    return outer, inner


def conformal_quantile(needed: list[float]) -> float | None:
    """Return the margin that is enough for a new frame with probability LEVEL; None if the frames are too few.

    It is the k-th smallest of n margins, k = ceil((n + 1) * LEVEL) (Angelopoulos and Bates 2021, arXiv 2107.07511,
    section 1). Rounded up.
    """
    position = math.ceil((len(needed) + 1) * LEVEL - 1e-9)
    if position > len(needed):
        return None
    return math.ceil(sorted(needed)[position - 1] * 10**MARGIN_DIGITS) / 10**MARGIN_DIGITS


def score_outlines(
    probability: np.ndarray, mask: np.ndarray, truth: np.ndarray, config: PostprocessingConfig
) -> dict[str, Any]:
    """Return the scores of the outlines of one frame; NaN where they are not defined.

    has_outlines: whether the frame has outlines.
    outer_coverage: share of the nerve inside the outer outline.
    inner_coverage: share of the inner region that is nerve.
    outer_area: area of the outer region, as a multiple of the nerve's.
    """
    scores: dict[str, Any] = dict.fromkeys(("outer_coverage", "inner_coverage", "outer_area"), math.nan)
    scores["has_outlines"] = bool(config.outlines and mask.any())
    if config.outlines and mask.any():
        outer, inner = find_outlines(probability, mask, config.pixel_calibration, config.outlines)
        if truth.any():
            scores["outer_coverage"] = float((outer[truth] > 0).mean())
            scores["outer_area"] = np.count_nonzero(outer) / np.count_nonzero(truth)
        if inner.any():
            scores["inner_coverage"] = float(truth[inner > 0].mean())
    return scores


def summarize_outlines(scores: pd.DataFrame) -> dict[str, Any]:
    """Return how often the guarantee held, of the frames that have it; NaN if no frame has.

    outer_outline_held, inner_outline_held: share of these frames whose coverage is at least COVERAGE; an empty inner
        region counts as one.
    outer_outline_area: median of these frames, as a multiple of the nerve's area.
    without_outline_guarantee: share of the frames with a nerve that have no guarantee, because the mask is empty or its
        expected Dice is low.

    scores: of `training.evaluation.frame_scores.score`.
    """
    has_guarantee = scores["has_outlines"] & (scores["confidence"] >= MIN_CONFIDENCE)
    guaranteed = scores[has_guarantee]
    return {
        "outer_outline_held": (guaranteed["outer_coverage"].dropna() >= COVERAGE).mean(),
        "inner_outline_held": (guaranteed["inner_coverage"].fillna(1.0) >= COVERAGE).mean(),
        "outer_outline_area": guaranteed["outer_area"].median(),
        "without_outline_guarantee": (~has_guarantee[scores["nerve"]]).mean(),
    }


def _log_odds(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(clipped / (1 - clipped))
