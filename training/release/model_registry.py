"""Register a network in MLflow's model registry."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient

from training.workspace import tracking

ALIAS = "champion"


def register_model(network: Path, candidate: str) -> dict[str, str]:
    """Give the alias to the registered version of a network file; register the network if it has no version yet.

    Returns version and run_id; both are empty if the MLflow store has no run of this network.
    """
    tracking.use_experiment()
    run = tracking.find_run(network)
    if run is None:
        return {"version": "", "run_id": ""}
    client = MlflowClient()
    digest = run.data.tags["weights"]
    versions = client.search_model_versions(f"name = '{tracking.MODEL_NAME}'")
    version = next((v.version for v in versions if v.tags.get("weights") == digest), None)
    if version is None:
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        tags = {"weights": digest, "candidate": candidate}
        version = mlflow.register_model(f"models:/{models[0].model_id}", tracking.MODEL_NAME, tags=tags).version
    client.set_registered_model_alias(tracking.MODEL_NAME, ALIAS, version)
    return {"version": str(version), "run_id": run.info.run_id}
