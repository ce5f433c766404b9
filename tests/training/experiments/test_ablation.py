"""Ablations train the base candidate with one change, and compare it with the base on the same frames."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.project_copy import ROOT, write_nerve
from tests.training.experiments.small_data_set import TINY, runs_of_trainings, write_data_set
from training.experiments import ablation, ablation_report
from training.experiments.ablation_parameters import BASE, ablation_candidates, override, read_ablations
from training.experiments.ablation_table import compare_with_base, comparison_table, read_ablation_scores
from training.workspace import paths
from training.workspace.output_checksums import DamagedOutputError
from training.workspace.parameter_validation import ParameterError

pytestmark = pytest.mark.training


def test_an_ablation_replaces_only_the_values_that_it_names() -> None:
    base = {"net": {"filters": [8, 16], "stem": 2}, "recipe": {"loss": "soft_dice"}}
    assert override(base, {"net": {"stem": 1}, "recipe": {"ema_momentum": None}}) == {
        "net": {"filters": [8, 16], "stem": 1},
        "recipe": {"loss": "soft_dice", "ema_momentum": None},
    }


def test_every_ablation_of_params_yaml_differs_from_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    candidates = ablation_candidates(read_ablations())
    base = candidates.pop(BASE)
    assert all(candidate != base for candidate in candidates.values())


def test_a_misspelt_parameter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ablations(tmp_path, {"no_speckle": {"recipe": {"speckel": 0}}})
    with pytest.raises(ParameterError, match=r"no_speckle.*recipe\.speckel"):
        ablation_candidates(read_ablations())


def test_an_unknown_ablation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ablations(tmp_path, {"base": {}})
    with pytest.raises(SystemExit, match=r"nerve\.ablations\.changes has no 'no_speckle'; it has base"):
        ablation.main("no_speckle")


def test_a_difference_on_the_same_frames_is_clear_although_the_means_are_not() -> None:
    """Frames are easy or difficult for all ablations. Only the difference per frame shows that one is worse."""
    rng = np.random.default_rng(0)
    base_dice = rng.random(40)
    scores = pd.concat(
        pd.DataFrame({"frame": range(40), "ablation": name, "seed": seed, "dice": base_dice + change, "minutes": 1.0})
        for name, change in ((BASE, 0.0), ("much_worse", rng.normal(-0.05, 0.02, 40)))
        for seed in (1, 2)
    )
    comparison = compare_with_base(scores)
    assert comparison.loc["much_worse", "dice_high"] > comparison.loc[BASE, "dice"]
    assert comparison.loc["much_worse", "difference_high"] < 0
    table = comparison_table(comparison).set_index("ablation")
    assert table.loc["much worse", "mean Dice (95 %)"].startswith(f"{(base_dice - 0.05).mean():.2f}")
    assert table.loc[BASE, "by seed"] == ", ".join([f"{base_dice.mean():.3f}"] * 2)


def test_the_report_without_the_base_names_the_command_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ablations(tmp_path, {"base": {}})
    with pytest.raises(SystemExit, match=r"dvc repro training/experiments/dvc\.yaml:ablation@base"):
        read_ablation_scores()


def test_each_fold_and_seed_is_a_training_and_the_report_compares_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ablations(tmp_path, {"base": {"seeds": [1, 2]}, "another_loss": {"recipe": {"loss": "cross_entropy_dice"}}})
    write_data_set(tmp_path)
    ablation.main("base")
    ablation.main("another_loss")
    ablation_report.main()

    table = " ".join((paths.ABLATION_REPORT / "table.md").read_text().split())
    assert all(f"| {name} |" in table for name in ("base", "tta flip", "another loss"))
    assert (paths.ABLATION_REPORT / "differences.png").stat().st_size > 5000
    scores = pd.read_csv(paths.ABLATION_REPORT / "frames.csv")
    splits = pd.read_csv(paths.SPLIT_TABLE).set_index("frame")["split"]
    assert set(splits[scores["frame"]]) <= {"train", "validation"}
    held_out = scores["frame"].nunique()
    assert Counter(scores["ablation"]) == {"base": 2 * held_out, "tta_flip": 2 * held_out, "another_loss": held_out}

    client = MlflowClient(mlflow_store)
    runs = runs_of_trainings("ablations", client)
    assert sorted(run.info.run_name for run in runs) == [
        "another_loss, fold 2, seed 1",
        "base, fold 2, seed 1",
        "base, fold 2, seed 2",
    ]
    assert all("dice" in run.data.metrics for run in runs)

    frames = paths.ABLATION / "another_loss/fold2_seed1/frames.csv"
    frames.write_text(frames.read_text().replace("1.0", "0.9"))
    with pytest.raises(DamagedOutputError, match=r"another_loss/fold2_seed1/frames\.csv is not as its stage wrote it"):
        ablation_report.main()


def write_ablations(project: Path, changes: dict[str, dict]) -> None:
    """Write a params.yaml with these ablations of the candidate TINY on fold 2, with seed 1."""
    section = {"base": "tiny", "folds": [2], "seeds": [1], "changes": changes}
    write_nerve(project, {"candidates": ["tiny"], "unets": {"tiny": TINY}, "ablations": section})
