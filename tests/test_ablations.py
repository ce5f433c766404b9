"""What a part of a recipe is worth: variations as params.yaml tells them, and distances on the same frames."""

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.project import ROOT, project_copy, run, write_nerve
from tests.test_folds import TINY
from training.ablations import compared, read, worded
from training.parameters import ParameterError
from training.variation import BASE, ablations, candidates, varied


def test_a_variation_is_the_base_with_what_it_names_changed():
    base = {"net": {"filters": [8, 16], "stem": 2}, "recipe": {"loss": "soft_dice"}}
    assert varied(base, {"net": {"stem": 1}, "recipe": {"average": None}}) == {
        "net": {"filters": [8, 16], "stem": 1},
        "recipe": {"loss": "soft_dice", "average": None},
    }


def test_the_project_s_own_variations_are_candidates_and_differ(monkeypatch):
    monkeypatch.chdir(ROOT)
    made = candidates(ablations())
    base = made.pop(BASE)
    assert all(one != base for one in made.values())


def test_a_misspelt_variation_is_named(tmp_path, monkeypatch):
    entry = {
        "base": "tiny",
        "folds": [1],
        "seeds": [1],
        "variations": {"no_speckel": {"recipe": {"speckel": 0}}},
    }
    write_nerve(tmp_path, {"race": ["tiny"], "unets": {"tiny": TINY}, "ablations": entry})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"no_speckel.*recipe\.speckel"):
        candidates(ablations())


def test_a_distance_is_told_from_the_noise_of_hard_and_easy_frames():
    rng = np.random.default_rng(0)
    hardness = rng.random(40)
    scores = pd.concat(
        pd.DataFrame({"frame": range(40), "variation": name, "seed": seed, "dice": hardness + apart, "minutes": 1.0})
        for name, apart in ((BASE, 0.0), ("much_worse", rng.normal(-0.05, 0.02, 40)))
        for seed in (1, 2)
    )
    rows = compared(scores)
    assert rows.loc["much_worse", "dice_high"] > rows.loc[BASE, "dice"]  # by its own interval it may be as good
    assert rows.loc["much_worse", "distance_high"] < 0
    told = worded(rows).set_index("variation")
    assert told.loc["much worse", "mean Dice (95 %)"].startswith(f"{(hardness - 0.05).mean():.2f}")
    assert told.loc[BASE, "by seed"] == ", ".join([f"{hardness.mean():.3f}"] * 2)


def test_without_the_base_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nerve(
        tmp_path,
        {"ablations": {"base": "tiny", "folds": [1], "seeds": [1], "variations": {"base": {}}}},
    )
    with pytest.raises(SystemExit, match=r"dvc repro folds/dvc\.yaml:variation@base"):
        read()


def test_a_table_and_a_run_for_each_training_and_what_is_done_is_kept(tmp_path):
    from mlflow import MlflowClient

    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    nerve = parameters["nerve"]
    nerve |= {"phantom": {"subjects": 8, "frames": 2, "seed": 1}, "unets": {"tiny": TINY}, "race": ["tiny"]}
    nerve["ablations"] = {
        "base": "tiny",
        "folds": [1, 2],
        "seeds": [1],
        "of_all": {},
        "variations": {"base": {"seeds": [1, 2]}, "another_loss": {"recipe": {"loss": "cross_entropy_dice"}}},
    }
    project = project_copy(tmp_path, parameters)
    run(project, "dvc", "repro", "folds/dvc.yaml:variation@base")
    run(project, "dvc", "repro", "folds/dvc.yaml:ablations")
    written = " ".join((project / "reports/ablations/table.md").read_text().split())
    assert all(f"| {name} |" in written for name in ("base", "asked twice once mirrored", "another loss"))
    assert (project / "reports/ablations/differences.png").exists()
    split = pd.read_csv(project / "data/split/split.csv").set_index("frame")["split"]
    scored = pd.read_csv(project / "reports/ablations/frames.csv")
    assert set(split[scored["frame"]]) <= {"train", "validation"}
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    made = client.search_runs([client.get_experiment_by_name("ablations").experiment_id])
    assert sorted(one.info.run_name for one in made) == [
        f"{name}, fold {fold}, seed {seed}"
        for name, seeds in (("another_loss", (1,)), ("base", (1, 2)))
        for fold in (1, 2)
        for seed in seeds
    ]
    assert all("dice" in one.data.metrics for one in made)
