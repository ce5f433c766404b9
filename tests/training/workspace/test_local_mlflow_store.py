"""The local MLflow store of a project that is copied or moved."""

import shutil

import mlflow
import pytest

from training.workspace import paths, tracking


@pytest.fixture(autouse=True)
def tracking_uri(monkeypatch):
    """MLflow forgets the store after the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield
    mlflow.set_tracking_uri(None)


def log_run(project, monkeypatch) -> str:
    """Log a run with an artifact in a project; return the run's ID."""
    monkeypatch.setattr(paths, "project_root", lambda: project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for child processes
    tracking.use_experiment()
    with mlflow.start_run() as run:
        mlflow.log_text("frame", "note.txt")
    return run.info.run_id


@pytest.mark.slow
def test_a_copied_project_has_its_own_artifacts(tmp_path, monkeypatch) -> None:
    original, copy = tmp_path / "first project (x)", tmp_path / "copy"
    original.mkdir()
    first = log_run(original, monkeypatch)
    shutil.copytree(original, copy)
    shutil.rmtree(original)
    second = log_run(copy, monkeypatch)
    assert not original.exists()
    for run_id in (first, second):
        assert mlflow.artifacts.load_text(mlflow.get_run(run_id).info.artifact_uri + "/note.txt") == "frame"
        assert str(copy) in mlflow.get_run(run_id).info.artifact_uri
