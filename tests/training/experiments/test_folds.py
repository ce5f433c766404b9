"""Cross-validation folds hold out each group once, and never divide a group."""

import numpy as np
import pytest

from training.experiments.folds import FOLDS, assign_splits

GROUPS = np.arange(120) // 10  # twelve groups


def test_every_frame_is_held_out_once_and_no_group_is_divided() -> None:
    folds = np.stack([assign_splits(GROUPS, fold, 0.15) for fold in range(1, FOLDS + 1)])
    assert ((folds == "held_out").sum(axis=0) == 1).all()
    for splits in folds:
        assert set(splits) == {"train", "validation", "held_out"}
        assert all(len(set(splits[group == GROUPS])) == 1 for group in range(12))
        assert (splits == "validation").sum() == 20


@pytest.mark.parametrize("fold", range(1, FOLDS + 1))
def test_held_out_groups_are_contiguous(fold: int) -> None:
    held_out = assign_splits(GROUPS, fold, 0.15) == "held_out"
    assert np.count_nonzero(np.diff(held_out.astype(int))) <= 2


def test_groups_of_one_frame_are_held_out_at_random() -> None:
    folds = np.stack([assign_splits(np.arange(100), fold, 0.15) for fold in range(1, FOLDS + 1)])
    assert ((folds == "held_out").sum(axis=0) == 1).all()
    assert ((folds == "held_out").sum(axis=1) == 20).all()
    assert ((folds == "validation").sum(axis=1) == 15).all()
    for splits in folds:
        assert np.count_nonzero(np.diff((splits == "held_out").astype(int))) > 20  # contiguous frames: 2
