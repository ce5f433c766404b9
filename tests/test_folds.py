"""Folds of whole groups, none held out twice."""

import numpy as np
import pytest

from tests.project import nerve
from training import folds
from training.evaluate import open_network
from training.folds import FOLDS, scored, sides_of, trained
from training.ingest import ingest
from training.parameters import Candidate
from training.sources.layout import FRAMES

GROUP = np.arange(120) // 10  # twelve blocks


def test_every_frame_is_held_out_once_and_no_group_is_divided() -> None:
    sides = np.stack([sides_of(GROUP, fold, 0.15) for fold in range(FOLDS)])
    assert ((sides == "held_out").sum(axis=0) == 1).all()
    for side in sides:
        assert set(side) == {"train", "validation", "held_out"}
        assert all(len(set(side[block == GROUP])) == 1 for block in range(12))
        assert (side == "validation").sum() == 20


def test_frames_that_are_groups_of_their_own_are_dealt_at_random_each_held_out_once() -> None:
    sides = np.stack([sides_of(np.arange(100), fold, 0.15) for fold in range(FOLDS)])
    assert ((sides == "held_out").sum(axis=0) == 1).all()
    assert ((sides == "held_out").sum(axis=1) == 20).all()
    assert ((sides == "validation").sum(axis=1) == 15).all()
    for side in sides:
        assert np.count_nonzero(np.diff((side == "held_out").astype(int))) > 20  # one run: 2


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_fold_is_one_contiguous_run(fold: int) -> None:
    held_out = sides_of(GROUP, fold, 0.15) == "held_out"
    assert np.count_nonzero(np.diff(held_out.astype(int))) <= 2


TINY = {
    "input": {"height": 32, "width": 48, "normalisation": "dataset"},
    "mirrored": False,
    "net": {"filters": [4, 8], "stem": 2, "batch_norm": True, "heads": ["mask", "presence"]},
    "recipe": {"loss": "soft_dice", "batch": 4, "phases": [{"epochs": 1, "learning_rate": 0.01}]},
}


def test_a_fold_is_trained_on_its_sides_and_scores_what_it_held_out(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows, _ = ingest(nerve({"phantom": {"subjects": 4, "frames": 2, "seed": 1}}), FRAMES)
    sides = {"train": rows[:4], "validation": rows[4:6], "held_out": rows[6:]}
    with trained(Candidate(**TINY), sides, seed=1, title="tiny") as folder:
        _, scores = scored(open_network(folder, mirrored=True), sides)
    assert list(scores["frame"]) == [row.frame for row in sides["held_out"]]
    assert scores["dice"].between(0, 1).all()


@pytest.mark.parametrize("fold", [0, 6])
def test_a_fold_that_is_none_of_the_five_is_named(fold: int) -> None:
    with pytest.raises(SystemExit, match=f"there is no fold {fold}: they are numbered from 1 to 5"):
        folds.main("deep", fold)
