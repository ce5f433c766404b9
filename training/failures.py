"""What a mask scores by the truth and, as far as its pixels tell, what went wrong with it: a word for a frame, and a
sentence for the word."""

from typing import Any

import numpy as np
import pandas as pd

from training.metrics import dice
from training.scores import LOST

GOOD = 0.7  # a Dice from which nothing is said to be wrong
KINDS = {
    "missed": "There is a nerve, and no mask.",
    "invented": "There is a mask, and no nerve.",
    "elsewhere": "The mask lies on another structure: it has little or nothing in common with the nerve.",
    "too large": "The nerve is found, but the mask goes on into what lies beside it: more than twice its area.",
    "too small": "The nerve is found in part: the mask has less than half its area.",
    "outline": "Mask and nerve overlap and are of about one size, but their outlines run apart.",
}


def verdict(mask: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The columns that `training.scores.groups` and `counted` want of a frame. mask, truth: bool (height, width)."""
    height, width = truth.shape
    return {
        "nerve": bool(truth.any()),
        "nerve_share": truth.mean(),
        "size": f"{width}x{height}",
        "dice": dice(mask, truth),
        "failure": failure(mask, truth),
    }


def failure(mask: np.ndarray, truth: np.ndarray) -> str:
    """One of KINDS, or nothing where the Dice is GOOD. mask, truth: bool (height, width)."""
    reached = dice(mask, truth)
    if reached >= GOOD:
        return ""
    drawn, wanted = np.count_nonzero(mask), np.count_nonzero(truth)
    if not drawn:
        return "missed"
    if not wanted:
        return "invented"
    if reached < LOST:
        return "elsewhere"
    if drawn > 2 * wanted:
        return "too large"
    return "too small" if 2 * drawn < wanted else "outline"


def counted(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a kind of failure, the most frequent first. scores: `failure`, a row a frame, empty where it did not."""
    counts = scores["failure"].value_counts()
    return pd.DataFrame(
        {"what": kind, "frames": f"{counts[kind]} of {len(scores)}", "that is": KINDS[kind]}
        for kind in counts.index
        if kind in KINDS
    )
