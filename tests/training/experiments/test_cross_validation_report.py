"""The cross-validation report compares all candidates on the same frames."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.project_copy import write_nerve
from tests.training.experiments.small_data_set import write_data_set
from training.experiments import cross_validation_report
from training.release.champion_page import cross_validation_section
from training.workspace import nerve_parameters, paths, provenance
from training.workspace.output_checksums import DamagedOutputError, output_folder

REPORT = paths.CROSS_VALIDATION_REPORT
LEAKAGE = {"frames": 50, "near_duplicates": 0.02, "near_duplicates_random_folds": 0.4}


def write_folds(candidate: str, dice: np.ndarray) -> None:
    """Write the result of `training.experiments.cross_validation`: fifty frames, ten per fold."""
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
            "has_guarantee": True,
            "outer_coverage": 0.95,
            "inner_coverage": np.nan,
            "outer_area": 1.5,
            "inner_area": 0.0,
            "hausdorff95_px": 1.0,
            "dice_empty": 0.0,
            "dice_mean_mask": 0.2,
            "failure": np.where(dice < 0.7, "outline", ""),
            "fingerprint": provenance.fingerprint(nerve_parameters.read_candidate(candidate)),
        }
    )
    for fold, of_fold in scores.groupby("fold"):
        with output_folder(paths.CROSS_VALIDATION / candidate / str(fold)) as folder:
            of_fold.to_csv(folder / "frames.csv", index=False)
            # The sheet of fold 3 is narrower, like that of a fold with few nerves.
            cv2.imwrite(str(folder / "sheet.png"), np.full((30, 40 - 10 * (fold == 3), 3), 50 * fold, np.uint8))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with five trained folds of two candidates; `deep` is better by 0.3 on every frame."""
    write_nerve(tmp_path, {})
    write_data_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cross_validation_report, "fold_leakage", lambda: LEAKAGE)
    dice = np.random.default_rng(1).uniform(0.4, 0.9, 50)
    write_folds("lecture", dice - 0.3)
    write_folds("deep", dice)
    return tmp_path


def test_the_table_ranks_candidates_and_shows_the_baselines(project: Path) -> None:
    cross_validation_report.main()
    table = (REPORT / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:6]] == [
        "deep",
        "lecture",
        "empty (baseline)",
        "mean mask (baseline)",
    ]
    assert "-0.300 (-0.300 to -0.300)" in table[3]
    assert "outside their fold: 2.0%" in table[-1]
    assert len({line.count("|") for line in table[:6]}) == 1


def test_the_report_has_plots_subgroups_failures_and_metrics(project: Path) -> None:
    cross_validation_report.main()
    assert (REPORT / "folds.png").stat().st_size > 5000
    text = " ".join((REPORT / "deep.md").read_text().split())
    assert "| large nerve | 16 |" in text
    assert "The mask overlaps the nerve and has a similar area, but its outline is wrong." in text
    sheet = cv2.imread(str(REPORT / "sheet.png"))
    assert sheet[::30, 0, 0].tolist() == [50, 100, 150, 200, 250]  # all five folds, in their order
    metrics = json.loads((REPORT / "metrics.json").read_text())
    assert metrics["lecture"]["folds"].keys() == set("12345")


def test_the_cell_of_a_fold_that_is_not_trained_is_empty(project: Path) -> None:
    shutil.rmtree(paths.CROSS_VALIDATION / "lecture/2")
    cross_validation_report.main()
    lines = (REPORT / "table.md").read_text().splitlines()
    assert lines[-1].endswith("Not all folds are trained: lecture 4 of 5.")
    cells = lines[3].strip("| ").split("|")
    assert [bool(cell.strip()) for cell in cells[4:7]] == [True, False, True]
    assert cells[-1].strip().startswith("-0.300")


def test_the_champions_page_shows_the_report_if_it_exists(project: Path) -> None:
    assert cross_validation_section() == {}
    cross_validation_report.main()
    section = cross_validation_section()
    assert "<td>lecture</td>" in section["cross_validation_table"]
    assert section["leakage"].startswith("50 frames")
    assert section["leakage"].endswith("with random folds: 40.0%.")
    assert section["cross_validation_plot"].startswith("data:image/png")


def test_the_champions_page_does_not_show_the_report_on_another_recipe(project: Path) -> None:
    cross_validation_report.main()
    unets = nerve_parameters.read_nerve_parameters().unets
    recipe = unets["deep"]["recipe"] | {"batch_size": 8}
    write_nerve(project, {"unets": unets | {"deep": unets["deep"] | {"recipe": recipe}}})
    assert cross_validation_section() == {}
    write_nerve(project, {"candidates": ["light"]})
    assert cross_validation_section() == {}


def test_a_changed_fold_is_an_error_of_the_report(project: Path) -> None:
    frames = paths.CROSS_VALIDATION / "deep/3/frames.csv"
    frames.write_text(frames.read_text().replace("frames/20.png", "frames/21.png"))
    with pytest.raises(DamagedOutputError, match=r"deep/3/frames\.csv is not as its stage wrote it"):
        cross_validation_report.main()


def test_a_changed_report_is_an_error_of_the_champions_page(project: Path) -> None:
    cross_validation_report.main()
    (REPORT / "table.csv").write_text("candidate\n")
    with pytest.raises(DamagedOutputError, match=r"table\.csv is not as its stage wrote it"):
        cross_validation_section()


def test_the_report_without_trained_folds_names_the_command_that_trains_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nerve(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"dvc repro training/experiments/dvc.yaml:cross_validation_report"):
        cross_validation_report.main()
