"""Fixtures for tests that train."""

from pathlib import Path

import pytest


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an MLflow store for this test only. MLflow writes both variables; monkeypatch restores them."""
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    return store
