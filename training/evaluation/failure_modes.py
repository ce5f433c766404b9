"""Failure modes: what is wrong with a mask, as far as its pixels show it."""

import numpy as np
import pandas as pd

from training.evaluation.segmentation_metrics import dice
from training.evaluation.summary import LOW_DICE

GOOD_DICE = 0.7  # a mask with this Dice or more has no failure mode
FAILURE_MODES = {
    "missed": "The frame shows a nerve, but the mask is empty.",
    "invented": "The frame shows no nerve, but the mask is not empty.",
    "elsewhere": "The mask is on another structure: it overlaps the nerve little or not at all.",
    "too large": "The mask covers the nerve and its surroundings: it has more than twice the nerve's area.",
    "too small": "The mask covers a part of the nerve: it has less than half of the nerve's area.",
    "outline": "The mask overlaps the nerve and has a similar area, but its outline is wrong.",
}


def failure_mode(mask: np.ndarray, truth: np.ndarray) -> str:
    """Return a key of FAILURE_MODES, or "" if the Dice is GOOD_DICE or more.

    mask, truth: bool (height, width).
    """
    mask_dice = dice(mask, truth)
    if mask_dice >= GOOD_DICE:
        return ""
    mask_px, truth_px = np.count_nonzero(mask), np.count_nonzero(truth)
    if not mask_px:
        return "missed"
    if not truth_px:
        return "invented"
    if mask_dice < LOW_DICE:
        return "elsewhere"
    if mask_px > 2 * truth_px:
        return "too large"
    return "too small" if 2 * mask_px < truth_px else "outline"


def count_failures(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a row per failure mode, the most frequent first.

    scores: a row per frame; its column `failure` is a key of FAILURE_MODES, or empty.
    """
    counts = scores["failure"].value_counts()
    return pd.DataFrame(
        {"failure": mode, "frames": f"{counts[mode]} of {len(scores)}", "meaning": FAILURE_MODES[mode]}
        for mode in counts.index
        if mode in FAILURE_MODES
    )
