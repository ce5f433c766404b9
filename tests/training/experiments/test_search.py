"""The stage search: trials with other values, the best of which becomes a candidate."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from tests.project_copy import ROOT, write_nerve
from tests.training.experiments.small_data_set import TINY, runs_of_trainings, write_data_set
from training.experiments.search import __main__ as search
from training.experiments.search.add_best_trial import add_best_trial
from training.experiments.search.parameters import draw_from, read_search, with_values
from training.workspace import nerve_parameters, paths
from training.workspace.nerve_parameters import Candidate
from training.workspace.parameter_validation import ParameterError, validate_section

pytestmark = pytest.mark.training

SECTION = {
    "base": "tiny",
    "fold": 1,
    "seed": 1,
    "trials": 3,
    "max_concurrent_trials": 2,
    "grace_epochs": 1,
    "overrides": {"recipe": {"phases": [{"epochs": 2, "learning_rate": 0.01}]}},
    "space": {
        "recipe.phases.0.learning_rate": {"loguniform": [1e-4, 1e-1]},
        "recipe.loss": {"choice": ["soft_dice", "cross_entropy_dice"]},
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_parameters(tmp_path, SECTION)
    write_data_set(tmp_path)
    return tmp_path


def write_parameters(folder: Path, section: dict) -> None:
    changes = {"candidates": ["tiny"], "unets": {"tiny": TINY}, "resources": {"num_cpus": 1, "num_gpus": 0}}
    write_nerve(folder, changes | {"search": section})


def test_the_best_trial_becomes_a_candidate(project, mlflow_store) -> None:
    search.main()
    trials = pd.read_csv(paths.SEARCH_REPORT / "trials.csv")
    assert len(trials) == 3
    assert trials["dice"].is_monotonic_decreasing
    best = json.loads((paths.SEARCH_REPORT / "best.json").read_text())
    assert best["values"]["recipe.phases.0.learning_rate"] == pytest.approx(trials["recipe.phases.0.learning_rate"][0])
    client = MlflowClient(mlflow_store)
    runs = runs_of_trainings("search", client)
    assert len(runs) == 3
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}  # also those that ASHA stopped

    search.main()  # nothing is left to do
    assert len(runs_of_trainings("search", client)) == 3

    add_best_trial("tuned")
    parameters = nerve_parameters.read_nerve_parameters()
    assert parameters.candidates == ["tiny", "tuned"]
    tuned = nerve_parameters.read_candidate("tuned")
    assert tuned.recipe.loss == best["values"]["recipe.loss"]
    assert tuned.recipe.epochs == TINY["recipe"]["phases"][0]["epochs"]  # not those of the overrides
    with pytest.raises(SystemExit, match="has tuned already"):
        add_best_trial("tuned")


def test_comments_of_the_parameters_stay(project) -> None:
    from training.workspace.output_checksums import output_folder

    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text)
    with output_folder(paths.SEARCH_REPORT) as folder:
        (folder / "best.json").write_text(
            json.dumps({"base": "light", "values": {"recipe.phases.0.learning_rate": 0.001}})
        )
    add_best_trial("tuned")
    changed = (project / "params.yaml").read_text()
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert all(comment in changed for comment in comments)
    light, tuned = (yaml.safe_load(changed)["nerve"]["unets"][name] for name in ("light", "tuned"))
    assert tuned["recipe"]["phases"][0].pop("learning_rate") == 0.001
    light["recipe"]["phases"][0].pop("learning_rate")
    assert light == tuned


def test_the_space_of_params_yaml_gives_valid_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    section = read_search()
    values = {name: draw_from(distribution).sample() for name, distribution in section.space.items()}
    validate_section(Candidate, with_values(section, values), "candidate")


def test_wrong_entries_are_named(project) -> None:
    write_parameters(project, SECTION | {"space": {"recipe.loss": {}}})
    with pytest.raises(ParameterError, match=r"space\.recipe\.loss: give one distribution"):
        read_search()
    write_parameters(project, SECTION | {"space": {"recipe.loss": {"gaussian": [0, 1]}}})
    with pytest.raises(ParameterError, match="gaussian"):
        read_search()


def test_more_wrong_entries_are_named_before_a_trial_starts(project) -> None:
    write_parameters(project, SECTION | {"grace_epochs": 3})
    with pytest.raises(SystemExit, match="grace_epochs is more than the 2 epochs"):
        search.main()
    write_parameters(project, SECTION | {"base": "small"})
    with pytest.raises(SystemExit, match="base is small, which is not in"):
        search.main()


def test_a_value_that_no_candidate_has_is_named_before_a_trial_starts(project) -> None:
    write_parameters(project, SECTION | {"space": {"recipe.speckel": {"choice": [1]}}})
    with pytest.raises(ParameterError, match="speckel"):
        search.main()
