"""Summaries of scored frames: metrics with intervals, also by subgroup, as numbers and as tables.

`scores` is the table that `training.evaluation.frame_scores.score` returns, with a row per frame. Intervals are 95 %
percentile bootstrap intervals over frames. Frames of one subject are alike, so the Dice of a new subject may be further
away.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from training.evaluation.bootstrap import bootstrap_interval
from training.evaluation.calibration_fit import expected_calibration_error

LOW_DICE = 0.2  # a mask with a lower Dice misses the nerve, or is on another structure


def summarize(scores: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of one split.

    A metric that these frames do not define is None: for example, `presence_auc` needs frames with and without a nerve.
    """
    from sklearn.metrics import roc_auc_score

    with_nerve, with_mask = scores[scores["nerve"]], scores.dropna(subset="confidence")
    both_classes = scores["nerve"].nunique() == 2
    presence, nerve = scores["presence"].to_numpy(), scores["nerve"].to_numpy()
    correlated = len(with_mask) > 2 and min(with_mask["confidence"].nunique(), with_mask["dice"].nunique()) > 1
    metrics = {
        **summarize_dice(scores["dice"]),
        "dice_with_nerve": with_nerve["dice"].mean(),
        "iou": scores["iou"].mean(),
        "hausdorff95_px": scores["hausdorff95_px"].mean(),
        "presence_auc": roc_auc_score(nerve, presence) if both_classes else None,
        "presence_calibration_error": expected_calibration_error(presence, nerve) if both_classes else None,
        "confidence_correlation": with_mask["confidence"].corr(with_mask["dice"]) if correlated else None,
        "confidence_error": (with_mask["confidence"] - with_mask["dice"]).abs().mean(),
        "baseline_empty": scores["dice_empty"].mean(),
        "baseline_mean_mask": scores["dice_mean_mask"].mean(),
    }
    return {"frames": len(scores), "frames_with_nerve": len(with_nerve), **round_metrics(metrics)}


def summarize_dice(dice: pd.Series) -> dict[str, float]:
    """Return mean and median Dice, each with its interval (`_low`, `_high`), and the share of frames below LOW_DICE."""
    metrics = {"dice": dice.mean(), "dice_median": dice.median(), f"dice_below_{LOW_DICE}": (dice < LOW_DICE).mean()}
    metrics["dice_low"], metrics["dice_high"] = bootstrap_interval(dice, np.mean)
    metrics["dice_median_low"], metrics["dice_median_high"] = bootstrap_interval(dice, np.median)
    return metrics


def mean_difference(dice: pd.Series, reference: pd.Series) -> dict[str, float]:
    """Return the mean of `dice` minus `reference` over the frames that both have, with its interval.

    Both have the frame's name as index.
    """
    differences = (dice - reference).dropna()
    low, high = bootstrap_interval(differences, np.mean)
    return {"difference": differences.mean(), "difference_low": low, "difference_high": high}


def round_metrics(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Return the metrics rounded to four decimals, with None for NaN."""
    return {
        name: None if value is None or np.isnan(value) else round(float(value), 4) for name, value in metrics.items()
    }


def summarize_subgroups(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return `summarize_dice` and the number of frames of each subgroup that has frames.

    Subgroups are all frames, frames without a nerve, thirds by the nerve's share of the frame, and frames of one size.
    If the column `near_duplicate` is true for a frame, they are also frames with and without a near-duplicate in
    training.
    """
    return {
        name: {"frames": len(subgroup), **round_metrics(summarize_dice(subgroup["dice"]))}
        for name, subgroup in _subgroups(scores)
        if len(subgroup)
    }


def _subgroups(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", scores
    yield "without a nerve", scores[~scores["nerve"]]
    by_size = scores[scores["nerve"]].sort_values("nerve_share", kind="stable")
    thirds = np.array_split(np.arange(len(by_size)), 3)
    for name, third in zip(("small", "medium", "large"), thirds, strict=True):
        yield f"{name} nerve", by_size.iloc[third]
    if "near_duplicate" in scores and scores["near_duplicate"].any():
        yield "with a near-duplicate in training", scores[scores["near_duplicate"]]
        yield "without a near-duplicate in training", scores[~scores["near_duplicate"]]
    for size, subgroup in scores.groupby("size"):
        yield f"{size} pixels", subgroup


def format_interval(metrics: Mapping[Any, float], name: str, sign: str = "") -> str:
    """Return a metric with its interval as text, such as "0.812 (0.790 to 0.833)".

    sign: "+" to show it always.
    """
    value, low, high = (format(metrics[key], f"{sign}.3f") for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} ({low} to {high})"


def subgroup_table(subgroups: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the result of `summarize_subgroups` as a table of texts."""
    return pd.DataFrame(
        {
            "frames": name,
            "number": metrics["frames"],
            "mean Dice (95 %)": format_interval(metrics, "dice"),
            "median Dice (95 %)": format_interval(metrics, "dice_median"),
            f"below {LOW_DICE}": f"{metrics[f'dice_below_{LOW_DICE}']:.1%}",
        }
        for name, metrics in subgroups.items()
    )


def to_markdown(table: pd.DataFrame) -> str:
    """Return the table in Markdown, with its texts unchanged: none is parsed as a number."""
    return table.to_markdown(index=False, disable_numparse=True) + "\n"
