"""What scored frames amount to: figures with intervals, by size of nerve and of frame, as numbers and as a table.

Scores are the table that `training.evaluate.score` gives, a row a frame. Intervals are of 95 %, percentile bootstrap
over frames; frames of one subject are alike, so another subject's may lie further off.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from training.calibration import calibration_error

LOST = 0.2  # a Dice below which the nerve was missed, or something else was taken for it
RESAMPLED = 2000


def summary(scores: pd.DataFrame) -> dict[str, Any]:
    """The figures of one split. None stands where a figure does not exist: a curve without both kinds of frames."""
    from sklearn.metrics import roc_auc_score

    with_nerve, drawn = scores[scores["nerve"]], scores.dropna(subset="confidence")
    both = scores["nerve"].nunique() == 2
    said, happened = scores["presence"].to_numpy(), scores["nerve"].to_numpy()
    told_apart = len(drawn) > 2 and min(drawn["confidence"].nunique(), drawn["dice"].nunique()) > 1
    figures = {
        **spread(scores["dice"]),
        "dice_with_nerve": with_nerve["dice"].mean(),
        "iou": scores["iou"].mean(),
        "hausdorff95_px": scores["hausdorff95_px"].mean(),
        "presence_auc": roc_auc_score(happened, said) if both else None,
        "presence_calibration_error": calibration_error(said, happened) if both else None,
        "confidence_correlation": drawn["confidence"].corr(drawn["dice"]) if told_apart else None,
        "confidence_error": (drawn["confidence"] - drawn["dice"]).abs().mean(),
        "baseline_empty": scores["dice_empty"].mean(),
        "baseline_mean_mask": scores["dice_mean_mask"].mean(),
    }
    return {"frames": len(scores), "frames_with_nerve": len(with_nerve), **rounded(figures)}


def spread(dice: pd.Series) -> dict[str, float]:
    """Mean and median Dice, each with its interval, and the share of frames that were lost."""
    found = {"dice": dice.mean(), "dice_median": dice.median(), "dice_lost": (dice < LOST).mean()}
    found["dice_low"], found["dice_high"] = _bootstrapped(dice, np.mean)
    found["dice_median_low"], found["dice_median_high"] = _bootstrapped(dice, np.median)
    return found


def distance(dice: pd.Series, other: pd.Series) -> dict[str, float]:
    """How much higher the mean Dice is than another net's on the frames that both have, with its interval; both by
    frame."""
    apart = (dice - other).dropna()
    low, high = _bootstrapped(apart, np.mean)
    return {"distance": apart.mean(), "distance_low": low, "distance_high": high}


def _bootstrapped(values: pd.Series, of_frames: Callable[..., Any]) -> tuple[float, float]:
    resampled = np.random.default_rng(1).choice(values.to_numpy(), (RESAMPLED, len(values)))
    low, high = np.percentile(of_frames(resampled, axis=1), (2.5, 97.5))
    return low, high


def rounded(figures: dict[str, Any]) -> dict[str, float | None]:
    """To four places, and None for what is not a number."""
    return {
        name: None if value is None or np.isnan(value) else round(float(value), 4) for name, value in figures.items()
    }


def groups(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """`spread` of all frames, of thirds by the nerve's share of the frame, by the frames' size, and, where there are
    some, by `twin`: whether a training frame looks like it."""
    return {name: {"frames": len(some), **rounded(spread(some["dice"]))} for name, some in _groups(scores) if len(some)}


def _groups(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", scores
    yield "without a nerve", scores[~scores["nerve"]]
    by_size = scores[scores["nerve"]].sort_values("nerve_share", kind="stable")
    thirds = np.array_split(np.arange(len(by_size)), 3)
    for name, third in zip(("small", "middling", "large"), thirds, strict=True):
        yield f"{name} nerve", by_size.iloc[third]
    if "twin" in scores and scores["twin"].any():
        yield "with a near twin in training", scores[scores["twin"]]
        yield "without one", scores[~scores["twin"]]
    for size, some in scores.groupby("size"):
        yield f"{size} pixels", some


def interval(figures: Mapping[Any, float], name: str, sign: str = "") -> str:
    """A figure with its interval, as people read it. sign: "+" where it is told also of what is positive."""
    middle, low, high = (format(figures[of], f"{sign}.3f") for of in (name, f"{name}_low", f"{name}_high"))
    return f"{middle} ({low} to {high})"


def worded(grouped: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """`groups` as people read it."""
    return pd.DataFrame(
        {
            "frames": name,
            "number": row["frames"],
            "mean Dice (95 %)": interval(row, "dice"),
            "median Dice (95 %)": interval(row, "dice_median"),
            f"below {LOST}": f"{row['dice_lost']:.1%}",
        }
        for name, row in grouped.items()
    )


def table(grouped: dict[str, dict[str, Any]]) -> str:
    """`groups` as a Markdown table."""
    return markdown(worded(grouped))


def markdown(said: pd.DataFrame) -> str:
    """A table that is read as it stands: no word of it is taken for a number."""
    return said.to_markdown(index=False, disable_numparse=True) + "\n"
