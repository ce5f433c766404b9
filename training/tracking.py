"""The MLflow store: where it is, what every run says of itself, and which run made which weights."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from training import parameters
from training.parameters import Candidate

if TYPE_CHECKING:
    import keras
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

EXPERIMENT = "nerve"
MODEL = "nerve-unet"  # in the registry
FRAMES_OUT = "data/frames"


def store(experiment: str = EXPERIMENT) -> None:
    """Point MLflow to MLFLOW_TRACKING_URI, or else to mlflow.db at the project's root, and to the experiment."""
    import mlflow

    home = parameters.root()
    own = f"sqlite:///{home / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", own)
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name(experiment) is None:
        # Another store's server says itself where its artifacts lie.
        artifacts = (home / "mlartifacts").as_uri() if uri == own else None
        try:
            # Else the UI opens on its pages for language models.
            mlflow.create_experiment(experiment, artifacts, {"mlflow.experimentKind": "custom_model_development"})
        except mlflow.MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":  # by another training that starts at the same time
                raise
    mlflow.set_experiment(experiment)


def commit() -> tuple[str, bool]:
    """The git commit in the working directory and whether tracked files differ from it; ("", True) without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "", True


def data_digest(out: str = FRAMES_OUT) -> str:
    """The md5 by which DVC knows a stage's output ("" where the pipeline has not run under DVC)."""
    lock = Path("dvc.lock")
    if not lock.exists():
        return ""
    stages = yaml.safe_load(lock.read_text()).get("stages", {})
    outs = [entry for stage in stages.values() for entry in stage.get("outs", [])]
    return next((entry["md5"] for entry in outs if entry["path"] == out), "")


def made_of(candidate: Candidate) -> str:
    """A digest of what a net's figures are of: its entry in params.yaml, the frames and their split."""
    told = candidate.model_dump_json() + data_digest() + data_digest("data/split")
    return hashlib.sha256(told.encode()).hexdigest()


def tags(source: str, out: str = FRAMES_OUT) -> dict[str, str]:
    """What ties a run to the state of code and data that it came from."""
    sha, dirty = commit()
    return {
        "data": data_digest(out),
        "source": source,
        "git.commit": sha,
        "git.dirty": str(dirty).lower(),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }


def weights_digest(network: Path) -> str:
    """The sha256 of a network's file: by it a run is found again, also after DVC restored the file from its cache."""
    with network.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_of(network: Path) -> "Run | None":
    """The newest run that made this network, or None (another machine's run, say)."""
    import mlflow

    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.weights = '{weights_digest(network)}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return found[0] if found else None


@contextmanager
def resumed(network: Path) -> Iterator[bool]:
    """Inside, MLflow logs to the run that made `network`; False where the store does not know it."""
    import mlflow

    store()
    run = run_of(network)
    if run is None:
        print(f"MLflow has no run that made {network}: its figures stand in reports/ alone")
        yield False
        return
    with mlflow.start_run(run_id=run.info.run_id):
        yield True


def flat(parameters_: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters with dotted names, lists of mappings numbered: what the UI's columns can compare."""
    found: dict[str, Any] = {}
    for key, value in parameters_.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = dict(enumerate(value, start=1))
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def log_frames(sides: dict[str, tuple[np.ndarray, np.ndarray]], out: str = FRAMES_OUT) -> None:
    """The data sets of the active run, each with MLflow's own digest of its frames and their targets."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.numpy_dataset import from_numpy

    source = CodeDatasetSource({"dvc": out, "md5": data_digest(out)})
    for side, (frames, masks) in sides.items():
        dataset = from_numpy(frames, targets=masks, source=source, name=side)
        try:
            mlflow.log_input(dataset, context=side)
        except mlflow.MlflowException as fault:
            if fault.error_code != "BAD_REQUEST":
                raise
            # Another training named the same frames since MLflow looked whether it knows them. Now it does.
            mlflow.log_input(dataset, context=side)


def log_net(model: "keras.Model", name: str, signature: "ModelSignature | None" = None) -> None:
    """A net as the active run's model."""
    import mlflow

    requirements = [f"{package}=={version(package)}" for package in ("keras", "tensorflow", "numpy")]
    mlflow.keras.log_model(model, name=name, signature=signature, pip_requirements=requirements)


def log_model(model: "keras.Model", folder: Path) -> None:
    """The U-net with its signature as the active run's model, and the files of `folder` beside it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def tensors(named: dict[str, Any]) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *t.shape[1:]), name) for name, t in named.items()])

    log_net(model, "unet", ModelSignature(tensors({"frame": model.inputs[0]}), tensors(model.output)))
    mlflow.log_artifacts(str(folder), "network")
    mlflow.set_tag("weights", weights_digest(folder / "unet.onnx"))
