"""Assign frames to five cross-validation folds."""

import numpy as np
import pandas as pd

from training.data.manifest import ManifestRow
from training.data.near_duplicates import compute_thumbnails, measure_leakage
from training.data.split_table import rows_of_split
from training.workspace import paths
from training.workspace.nerve_parameters import read_nerve_parameters

FOLDS = 5
SHUFFLE_SEED = 1  # for groups of one frame each


def assign_splits(groups: np.ndarray, fold: int, validation_share: float) -> np.ndarray:
    """Return the split of each frame in a fold, str (N,): "train", "validation" or "held_out".

    Groups are never divided. A fold holds out consecutive groups. The groups that follow are validation; the first
    group follows the last one. If each frame is a group of its own, the frames are shuffled first.

    groups: int (N,), the group of each frame.
    fold: 1 to FOLDS.
    validation_share: share of the groups.
    """
    order = np.unique(groups)
    if len(order) == len(groups):
        order = np.random.default_rng(SHUFFLE_SEED).permutation(order)
    parts = np.array_split(order, FOLDS)
    held_out, following = parts[fold - 1], np.concatenate(parts[fold:] + parts[: fold - 1])
    validation = following[: max(1, round(validation_share * len(order)))]
    return np.select([np.isin(groups, held_out), np.isin(groups, validation)], ["held_out", "validation"], "train")


def rows_of_fold(fold: int) -> dict[str, list[ManifestRow]]:
    """Return the rows of "train", "validation" and "held_out" of a fold, 1 to FOLDS. They contain no test frames."""
    rows = rows_of_split("train") + rows_of_split("validation")
    groups = pd.read_csv(paths.SPLIT_TABLE).set_index("frame")["group"]
    splits = assign_splits(
        groups[[row.frame for row in rows]].to_numpy(), fold, read_nerve_parameters().split.validation
    )
    return {split: [rows[i] for i in np.flatnonzero(splits == split)] for split in np.unique(splits)}


def fold_leakage() -> dict[str, float]:
    """Return the number of frames in the folds, and their `training.data.near_duplicates.measure_leakage`."""
    held_out = [rows_of_fold(fold)["held_out"] for fold in range(1, FOLDS + 1)]
    rows = [row for fold_rows in held_out for row in fold_rows]
    folds = np.repeat(np.arange(1, FOLDS + 1), [len(fold_rows) for fold_rows in held_out])
    return {"frames": len(rows), **measure_leakage(compute_thumbnails(rows), folds)}
