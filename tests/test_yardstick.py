"""Candidates side by side: the same frames, and the distance between them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training import folds, yardstick
from training.scores import rounded, spread, summary


def write(name: str, dice: np.ndarray) -> None:
    """What `training.folds` would leave of a candidate: fifty frames, ten a fold."""
    scores = pd.DataFrame(
        {
            "fold": np.arange(50) // 10 + 1,
            "frame": [f"frames/{n}.png" for n in range(50)],
            "nerve": True,
            "presence": 1.0,
            "confidence": dice,
            "dice": dice,
            "iou": dice / 2,
            "hausdorff95_px": 1.0,
            "dice_empty": 0.0,
            "dice_mean_mask": 0.2,
        }
    )
    folder = folds.REPORTS / name
    folder.mkdir(parents=True)
    scores.to_csv(folder / "frames.csv", index=False)
    by_fold = {str(fold): rounded(spread(some["dice"])) for fold, some in scores.groupby("fold")}
    leak = {"nearly_the_same": 0.02, "nearly_the_same_at_random": 0.4}
    figures = {"all": summary(scores), "folds": by_fold, "leakage": leak}
    (folder / "metrics.json").write_text(json.dumps(figures))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    hardness = np.random.default_rng(1).uniform(0.4, 0.9, 50)
    write("lecture", hardness - 0.3)
    write("deep", hardness)
    return tmp_path


def test_candidates_stand_in_one_table_the_best_first(measured: Path) -> None:
    yardstick.main()
    table = (measured / "reports/yardstick/table.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:6]] == [
        "deep",
        "lecture",
        "empty (baseline)",
        "mean mask (baseline)",
    ]
    assert "-0.300 (-0.300 to -0.300)" in table[3]
    assert "outside their fold: 2.0%" in table[-1]
    assert len({line.count("|") for line in table[:6]}) == 1
    assert (measured / "reports/yardstick/folds.png").stat().st_size > 5000


def test_without_folds_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"dvc repro folds/dvc.yaml:folds@light"):
        yardstick.main()
