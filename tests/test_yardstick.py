"""Candidates side by side: the same frames, and the distance between them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.project import write_nerve
from training import explain, folds, parameters, tracking, yardstick


def write(name: str, dice: np.ndarray) -> None:
    """What `training.folds` would leave of a candidate: fifty frames, ten a fold."""
    scores = pd.DataFrame(
        {
            "fold": np.arange(50) // 10 + 1,
            "frame": [f"frames/{n}.png" for n in range(50)],
            "nerve": True,
            "nerve_share": dice / 10,
            "size": "580x420",
            "presence": 1.0,
            "confidence": dice,
            "dice": dice,
            "iou": dice / 2,
            "hausdorff95_px": 1.0,
            "dice_empty": 0.0,
            "dice_mean_mask": 0.2,
            "failure": np.where(dice < 0.7, "outline", ""),
            "made_of": tracking.made_of(parameters.candidate(name)),
        }
    )
    for fold, some in scores.groupby("fold"):
        folder = folds.REPORTS / name / str(fold)
        folder.mkdir(parents=True)
        some.to_csv(folder / "frames.csv", index=False)
        # One is narrower, as of a fold that holds few nerves.
        cv2.imwrite(str(folder / "sheet.png"), np.full((30, 40 - 10 * (fold == 3), 3), 50 * fold, np.uint8))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_nerve(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yardstick, "leaks", lambda: {"frames": 50, "twins": 0.02, "twins_at_random": 0.4})
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
    told = " ".join((measured / "reports/yardstick/deep.md").read_text().split())
    assert "| large nerve | 16 |" in told
    assert "Mask and nerve overlap and are of about one size, but their outlines run apart." in told
    sheet = cv2.imread(str(measured / "reports/yardstick/sheet.png"))
    assert sheet[::30, 0, 0].tolist() == [50, 100, 150, 200, 250]  # all five folds, in their order
    assert json.loads((measured / "reports/yardstick/metrics.json").read_text())["lecture"]["folds"].keys() == set(
        "12345"
    )


def test_the_champion_s_page_tells_of_them_where_there_are_any(measured: Path) -> None:
    assert explain.folds() == {}
    yardstick.main()
    told = explain.folds()
    assert "<td>lecture</td>" in told["folds"]
    assert told["leaking"].startswith("50 frames") and told["by_fold"].startswith("data:image/png")
    assert told["leaking"].endswith("of folds dealt at random, 40.0%.")


def test_the_champion_s_page_is_silent_on_those_of_another_recipe(measured: Path) -> None:
    yardstick.main()
    unets = parameters.nerve().unets
    recipe = unets["deep"]["recipe"] | {"batch": 8}
    write_nerve(measured, {"unets": unets | {"deep": unets["deep"] | {"recipe": recipe}}})
    assert explain.folds() == {}
    write_nerve(measured, {"race": ["light"]})
    assert explain.folds() == {}


def test_a_fold_that_is_not_trained_yet_stays_empty_and_is_told(measured: Path) -> None:
    shutil.rmtree(folds.REPORTS / "lecture/2")
    yardstick.main()
    told = (measured / "reports/yardstick/table.md").read_text().splitlines()
    row = told[3].strip("| ").split("|")
    assert told[-1].endswith("Not all folds are trained: lecture 4 of 5.")
    assert [bool(cell.strip()) for cell in row[4:7]] == [True, False, True]
    assert row[-1].strip().startswith("-0.300")


def test_without_folds_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nerve(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"dvc repro folds/dvc.yaml:yardstick"):
        yardstick.main()
