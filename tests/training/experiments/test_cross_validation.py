"""The stage cross_validation trains on one fold and scores the frames that the fold holds out."""

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.project_copy import write_nerve
from tests.training.experiments.small_data_set import TINY, runs_of_trainings, start_experiment, write_data_set
from training.experiments import cross_validation
from training.experiments.folds import rows_of_fold
from training.workspace import nerve_parameters

pytestmark = pytest.mark.training


def test_a_fold_trains_a_candidate_and_scores_its_held_out_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_nerve(tmp_path, {"candidates": ["tiny"], "unets": {"tiny": TINY | {"tta": "flip"}}})
    write_data_set(tmp_path)
    folder = tmp_path / "fold"
    folder.mkdir()
    candidate = nerve_parameters.read_candidate("tiny")
    cross_validation.train_fold(folder, start_experiment(), "tiny", 2, candidate, seed=1)

    scores = pd.read_csv(folder / "frames.csv")
    assert list(scores["frame"]) == [row.frame for row in rows_of_fold(2)["held_out"]]
    assert scores["dice"].between(0, 1).all()
    assert (folder / "sheet.png").stat().st_size > 5000
    client = MlflowClient(mlflow_store)
    (run,) = runs_of_trainings("cross_validation", client)
    assert run.info.run_name == "tiny, fold 2"
    assert run.data.metrics["dice"] == pytest.approx(scores["dice"].mean())
