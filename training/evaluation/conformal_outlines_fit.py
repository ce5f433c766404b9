"""Fit the margins of the outlines on validation frames, and measure on other frames whether the guarantee holds.

`service.inference.conformal_outlines` draws the outlines and names the method.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from service.inference.conformal_outlines import find_outlines, threshold_log_odds
from service.inference.probability_histogram import bin_indices, log_odds_bins
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameSegmentation
from service.inference.segmenter import build_segmentation
from service.model.platt_scaling import PlattScaling
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from training.data.frame_mask_pair import UNRECORDED_SUBJECTS
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.evaluation.inference import Network, map_rows
from training.evaluation.summary import round_metrics

COVERAGE, LEVEL = 0.9, 0.9  # of ConformalOutlines
MARGIN_DIGITS = 4  # margins are rounded up
OUTLINE_SCORES = ("outer_coverage", "inner_coverage", "outer_area", "inner_area")
ROUNDING = 1e-6  # log-odds; a pixel exactly at a margin is outside the inner outline


def fit_outlines(network: Network, rows: list[ManifestRow], config: PostprocessingConfig) -> ConformalOutlines | None:
    """Return the margins for masks with an expected Dice of at least MIN_CONFIDENCE, from the rows with such a mask.

    None if fewer than 1 / (1 - LEVEL) - 1 of them show a nerve: then no margin is wide enough.
    """

    def measure(row: ManifestRow) -> tuple[float | None, float] | None:
        probability, presence = network(read_frame(row))
        segmentation = build_segmentation(probability, presence, config)
        if segmentation.confidence is None or segmentation.confidence < MIN_CONFIDENCE:
            return None
        return needed_margins(probability, segmentation.mask, read_nerve_mask(row), config.pixel_calibration)

    measured = [
        (row, margins) for row, margins in zip(rows, map_rows(measure, rows, "outlines"), strict=True) if margins
    ]
    outers = [outer for _, (outer, _) in measured if outer is not None]
    outer, inner = conformal_quantile(outers), conformal_quantile([inner for _, (_, inner) in measured])
    if outer is None or inner is None:
        return None
    subjects = {row.subject for row, (outer, _) in measured if outer is not None} - UNRECORDED_SUBJECTS
    return ConformalOutlines(outer, inner, COVERAGE, LEVEL, MIN_CONFIDENCE, len(outers), len(subjects) or None)


def needed_margins(
    probability: np.ndarray, mask: np.ndarray, truth: np.ndarray, calibration: PlattScaling
) -> tuple[float | None, float]:
    """Return the smallest outer and inner margin, in log-odds, that give this frame the COVERAGE.

    Each larger margin gives it, too. Without a nerve the outer margin is None, and the inner region has to be empty.

    probability: float32 (height, width), 0..1. mask: its mask, uint8 (height, width), not empty.
    truth: the nerve, bool (height, width). calibration: of pixels.
    """
    log_odds = log_odds_bins(calibration)[bin_indices(probability)].reshape(probability.shape)
    threshold = threshold_log_odds(probability, calibration)
    outer = None
    if truth.any():
        inside = np.where(mask > 0, np.inf, log_odds)[truth]  # the outer region holds the whole mask
        enough = math.ceil(COVERAGE * inside.size)
        outer = max(0.0, threshold - float(np.sort(inside)[-enough]))
    order = np.argsort(-log_odds[mask > 0], kind="stable")
    values, is_nerve = log_odds[mask > 0][order], truth[mask > 0][order]
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
    probability: np.ndarray, segmentation: FrameSegmentation, truth: np.ndarray, config: PostprocessingConfig
) -> dict[str, Any]:
    """Return the scores of the outlines of one frame; NaN where they are not defined.

    has_guarantee: whether the service gives a guarantee, if the frame is not out of distribution.
    outer_coverage: share of the nerve inside the outer outline.
    inner_coverage: share of the inner region that is nerve.
    outer_area, inner_area: of the regions, as a multiple of the nerve's area.
    """
    scores: dict[str, Any] = dict.fromkeys(OUTLINE_SCORES, math.nan)
    margins, confidence = config.outlines, segmentation.confidence
    scores["has_guarantee"] = margins is not None and confidence is not None and confidence >= margins.min_confidence
    if margins and confidence is not None:
        outer, inner = find_outlines(probability, segmentation.mask, config.pixel_calibration, margins)
        if truth.any():
            scores["outer_coverage"] = float((outer[truth] > 0).mean())
            scores["outer_area"], scores["inner_area"] = (
                np.count_nonzero(region) / np.count_nonzero(truth) for region in (outer, inner)
            )
        if inner.any():
            scores["inner_coverage"] = float(truth[inner > 0].mean())
    return scores


def summarize_outlines(scores: pd.DataFrame) -> dict[str, Any]:
    """Return how often the guarantee held, of the frames that have it; None if no frame has.

    outer_outline_held: share of these frames with a nerve whose coverage is at least COVERAGE.
    inner_outline_held: share of these frames whose coverage is at least COVERAGE; an empty inner region counts as one.
    outer_outline_area, inner_outline_area: medians of these frames, as multiples of the nerve's area.
    without_outline_guarantee: share of the frames with a nerve that have no guarantee, because the mask is empty or its
        expected Dice is low.

    scores: of `training.evaluation.frame_scores.score`, of frames that did not fit the margins.
    """
    guaranteed = scores[scores["has_guarantee"]]
    return round_metrics(
        {
            "outer_outline_held": (guaranteed["outer_coverage"].dropna() >= COVERAGE).mean(),
            "inner_outline_held": (guaranteed["inner_coverage"].fillna(1.0) >= COVERAGE).mean(),
            "outer_outline_area": guaranteed["outer_area"].median(),
            "inner_outline_area": guaranteed["inner_area"].median(),
            "without_outline_guarantee": (~scores["has_guarantee"][scores["nerve"]]).mean(),
        }
    )
