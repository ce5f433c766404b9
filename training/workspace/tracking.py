"""MLflow runs: the store, tags and data sets of a run, and the run that trained a network."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import mlflow
import numpy as np
from mlflow import MlflowException
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from training.workspace import local_mlflow_store, paths
from training.workspace.output_checksums import CHECKSUMS
from training.workspace.provenance import FRAMES_OUTPUT, data_digest, file_digest, git_state

if TYPE_CHECKING:
    import keras

DIGEST_LENGTH = 8  # as MLflow's own
EXPERIMENT = "nerve"
MODEL_NAME = "nerve-unet"  # in the model registry


class ArrayLike(Protocol):
    """What a data set's description needs of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


def use_experiment(experiment: str = EXPERIMENT) -> None:
    """Select the MLflow store and the experiment; create the experiment if it does not exist.

    The store is MLFLOW_TRACKING_URI, or else mlflow.db in the project's root.
    """
    local_uri = f"sqlite:///{local_mlflow_store.database()}"
    uri = os.environ.get("MLFLOW_TRACKING_URI", local_uri)
    mlflow.set_tracking_uri(uri)
    if uri == local_uri:
        local_mlflow_store.follow_project()
    if mlflow.get_experiment_by_name(experiment) is None:
        # A tracking server chooses where artifacts are stored.
        artifacts = local_mlflow_store.artifacts_uri() if uri == local_uri else None
        # Without this kind the MLflow UI opens on its pages for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            mlflow.create_experiment(experiment, artifacts, tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another training created it at the same time
                raise
    mlflow.set_experiment(experiment)


def run_tags(source: str, output: str = FRAMES_OUTPUT) -> dict[str, str]:
    """Return the tags that identify the code and the data of a run. Without a commit, `git.error` says why.

    source: the data source.
    output: the stage output that the run reads.
    """
    git = git_state()
    tags = {
        "data": data_digest(output),
        "source": source,
        "git.commit": git.commit,
        "git.dirty": str(git.dirty).lower(),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return tags | {"git.error": git.error} if git.error else tags


def find_run(network: Path) -> Run | None:
    """Return the newest run that trained this network; None if this store has none."""
    runs = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.weights = '{file_digest(network)}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return runs[0] if runs else None


@contextmanager
def resume_run(network: Path) -> Iterator[bool]:
    """Let MLflow log to the run that trained `network`, inside the block; yield False if the store has no such run."""
    use_experiment()
    run = find_run(network)
    if run is None:
        print(f"MLflow has no run that trained {network}. Its metrics are only in {paths.REPORTS}/.")
        yield False
        return
    with mlflow.start_run(run_id=run.info.run_id):
        yield True


def flatten(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters with dotted names, so that the MLflow UI shows each in a column.

    A list of mappings is numbered from 1: "phases.1.epochs".
    """
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = dict(enumerate(value, start=1))
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def log_datasets(splits: Mapping[str, tuple[ArrayLike, ArrayLike]], output: str) -> None:
    """Log the data sets of the active run: the shape and dtype of their arrays, and a digest.

    splits: frames and their targets by the split's name.
    output: the stage output that they come from. The checksums of its files give the digests.
    """
    source = CodeDatasetSource({"dvc": output, "md5": data_digest(output)})
    checksums = Path(output) / CHECKSUMS
    content = file_digest(checksums) if checksums.exists() else data_digest(output)
    for split, arrays in splits.items():
        digest = hashlib.sha256(f"{content} {split} {[array.shape for array in arrays]}".encode()).hexdigest()
        frames, targets = map(_without_values, arrays)
        dataset = from_numpy(frames, source, targets, name=split, digest=digest[:DIGEST_LENGTH])
        try:
            mlflow.log_input(dataset, context=split)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # Another training registered the same data set after MLflow searched for it. The second call finds it.
            mlflow.log_input(dataset, context=split)


def _without_values(array: ArrayLike) -> np.ndarray:
    """Return zeros of the array's shape and dtype that take no memory. MLflow would copy the array, however large."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def log_keras_model(model: "keras.Model", name: str, signature: ModelSignature | None = None) -> None:
    """Log a Keras model to the active run."""
    requirements = [f"{package}=={version(package)}" for package in ("keras", "tensorflow", "numpy")]
    mlflow.keras.log_model(model, name=name, signature=signature, pip_requirements=requirements)


def log_unet(model: "keras.Model", folder: Path) -> None:
    """Log a U-net with its signature to the active run, with the files of `folder` as artifacts.

    The tag `weights` identifies the network in `folder` for `find_run`.
    """

    def schema(tensors: dict[str, Any]) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *t.shape[1:]), name) for name, t in tensors.items()])

    log_keras_model(model, "unet", ModelSignature(schema({"frame": model.inputs[0]}), schema(model.output)))
    mlflow.log_artifacts(str(folder), "network")
    mlflow.set_tag("weights", file_digest(folder / "unet.onnx"))
