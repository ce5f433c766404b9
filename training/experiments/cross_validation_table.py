"""Compare candidates over the same folds."""

from pathlib import Path

import pandas as pd

from training.evaluation.summary import LOW_DICE, format_interval, mean_difference, summarize_dice
from training.experiments.folds import FOLDS
from training.workspace import nerve_parameters, paths

MEAN_DICE = "mean Dice (95 %)"


def trained_folds(candidate: str) -> list[Path]:
    """Return the folder of each trained fold of a candidate."""
    folders = [paths.CROSS_VALIDATION / candidate / str(fold) for fold in range(1, FOLDS + 1)]
    return [folder for folder in folders if (folder / "frames.csv").exists()]


def read_fold_scores() -> dict[str, pd.DataFrame]:
    """Return the scored frames of each candidate with a trained fold, by name, the best mean Dice first."""
    scores = {}
    for name in nerve_parameters.read_nerve_parameters().candidates:
        if folders := trained_folds(name):
            tables = (pd.read_csv(folder / "frames.csv") for folder in folders)
            scores[name] = pd.concat(tables, ignore_index=True)
    return dict(sorted(scores.items(), key=lambda item: -item[1]["dice"].mean()))


def summarize_folds(scores: pd.DataFrame) -> dict[int, dict[str, float]]:
    """Return `summarize_dice` of each trained fold."""
    return {int(fold): summarize_dice(scores.loc[scores["fold"] == fold, "dice"]) for fold in scores["fold"].unique()}


def unique_frames(candidates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each frame that any candidate is scored on. Use only columns that all candidates share."""
    return pd.concat(candidates.values()).drop_duplicates("frame")


def comparison_table(candidates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a table of texts with a row per candidate and baseline. The cell of a fold that is not trained is empty.

    The column of differences compares with the best candidate on the same frames: a candidate is worse if its interval
    excludes 0.

    candidates: the result of `read_fold_scores`.
    """
    dice = {name: scores.set_index("frame")["dice"] for name, scores in candidates.items()}
    best = next(iter(dice))
    rows = []
    for name, scores in candidates.items():
        metrics, folds = summarize_dice(scores["dice"]), summarize_folds(scores)
        difference = format_interval(mean_difference(dice[name], dice[best]), "difference", "+")
        rows.append(
            {
                "candidate": name,
                MEAN_DICE: format_interval(metrics, "dice"),
                "median": f"{metrics['dice_median']:.3f}",
                f"below {LOW_DICE}": f"{metrics[f'dice_below_{LOW_DICE}']:.1%}",
                **{f"fold {n}": f"{folds[n]['dice']:.3f}" if n in folds else "" for n in range(1, FOLDS + 1)},
                "difference from the best (95 %)": "-" if name == best else difference,
            }
        )
    frames = unique_frames(candidates)
    for baseline in ("empty", "mean_mask"):
        name = f"{baseline.replace('_', ' ')} (baseline)"
        rows.append({"candidate": name, MEAN_DICE: f"{frames[f'dice_{baseline}'].mean():.3f}"})
    return pd.DataFrame(rows).fillna("")


def describe_leakage(leakage: dict[str, float], candidates: dict[str, pd.DataFrame]) -> str:
    """Return the result of `fold_leakage` as text, and the folds that are not trained yet."""
    text = (
        f"{leakage['frames']} frames, without the test split. Frames with a near-duplicate outside their fold: "
        f"{leakage['near_duplicates']:.1%}; with random folds: {leakage['near_duplicates_random_folds']:.1%}."
    )
    trained = {name: scores["fold"].nunique() for name, scores in candidates.items()}
    incomplete = ", ".join(f"{name} {count} of {FOLDS}" for name, count in trained.items() if count < FOLDS)
    return f"{text} Not all folds are trained: {incomplete}." if incomplete else text
