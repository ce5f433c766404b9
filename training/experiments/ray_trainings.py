"""Run the trainings of an experiment as Ray tasks: on the cluster at RAY_ADDRESS, or on this machine.

Each training writes a folder. A folder that was made from the same code, data and parameters is kept, so a stage that
was stopped goes on where it was. If a node is lost, Ray runs its trainings again on another one.

All nodes need the project's folder under the same path. If there are several machines, MLFLOW_TRACKING_URI must name a
server.
"""

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import ray

from service.resources import ray_cluster
from training.workspace import nerve_parameters, paths, tracking
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import CHECKSUMS, damaged_files, output_folder
from training.workspace.provenance import file_digest

CODE_ROOT = Path(__file__).parents[2]
INPUTS = "inputs.sha256"  # in the folder of a training: what it was made from
CODE = (
    *("training/data", "training/models", "training/fitting", "training/evaluation"),
    *("training/workspace/learning_rate_schedule.py", "service/decoding", "service/inference", "service/model"),
    *(f"training/experiments/{name}.py" for name in ("fold_training", "folds", "cross_validation", "ablation")),
)
LIBRARIES = ("keras", "numpy", "openvino", "opencv-python-headless", "tensorflow")
MAX_RETRIES = 20  # of a training whose node is lost
PASSED_ON = ("MLFLOW_", "DVC_STAGE", "DVC_EXP_NAME", "AWS_")  # variables of this process for the trainings


class Training(NamedTuple):
    """One training of an experiment.

    title: for messages. folder: where it writes its results.
    function: of a module of this project. Its arguments are an empty folder, the MLflow run of the experiment, and
        `arguments`.
    inputs: of `digest_inputs`.
    """

    title: str
    folder: Path
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    inputs: str


def digest_inputs(candidate: Candidate, *others: Any) -> str:
    """Return a SHA-256 of what a training depends on: the candidate, other values, and `digest_environment`."""
    text = repr((candidate.model_dump_json(), others, digest_environment()))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_environment() -> str:
    """Return a SHA-256 of what all trainings depend on: code, libraries, frames, split and resources."""
    parameters = nerve_parameters.read_nerve_parameters()
    libraries = [(name, version(name)) for name in LIBRARIES]
    digest = hashlib.sha256(repr((parameters.split, parameters.resources, libraries)).encode())
    code = sorted(path for name in CODE for path in [CODE_ROOT / name, *(CODE_ROOT / name).rglob("*.py")])
    for path in (paths.FRAMES / CHECKSUMS, paths.SPLIT / CHECKSUMS, *filter(Path.is_file, code)):
        digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def run_trainings(title: str, experiment: str, trainings: list[Training]) -> None:
    """Run the trainings whose results are not there yet, in a run of MLflow that is the parent of theirs.

    Raises SystemExit if one fails. The others are finished first.
    """
    missing = [training for training in trainings if not is_finished(training)]
    if kept := len(trainings) - len(missing):
        print(f"{title}: {kept} of {len(trainings)} trainings are finished already")
    if not missing:
        return
    tracking.use_experiment(experiment)
    tags = tracking.run_tags(nerve_parameters.read_nerve_parameters().source)
    with connection(), mlflow.start_run(run_name=title, tags=tags) as parent:
        task = ray.remote(**training_resources(), max_retries=MAX_RETRIES)(_run)
        environment = digest_environment()
        tasks = [_submit(task, training, environment, parent.info.run_id) for training in missing]
        failures = _wait(tasks, missing)
        if failures:
            raise SystemExit("\n".join(failures))


def is_finished(training: Training) -> bool:
    """Return whether the folder of a training is whole and was made from the same inputs."""
    try:
        made_from = (training.folder / INPUTS).read_text()
    except FileNotFoundError:
        return False
    return made_from == training.inputs and not damaged_files(training.folder)


def remove_other_folders(folder: Path, trainings: list[Training]) -> None:
    """Remove the folders of trainings that the experiment no longer has."""
    for path in folder.iterdir() if folder.exists() else ():
        if path not in {training.folder for training in trainings}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def connection() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine, until the block ends. Raises SystemExit."""
    resources = nerve_parameters.read_nerve_parameters().resources
    cores = str(resources.num_cpus)
    environment = {"PYTHONPATH": str(CODE_ROOT), "TF_NUM_INTRAOP_THREADS": cores, "TF_CPP_MIN_LOG_LEVEL": "2"}
    # TensorFlow's C++ code logs before any level takes effect, and rich draws bars although no terminal reads them.
    environment |= {"TF_ENABLE_ONEDNN_OPTS": "1", "TERM": "dumb"}
    if not resources.num_gpus:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"  # Ray would show all GPUs to each training
    try:
        with ray_cluster.connection(os.environ.get("RAY_ADDRESS"), environment, show_output=True):
            hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
            if hosts != {socket.gethostname()} and mlflow.get_tracking_uri().startswith(("sqlite", "file")):
                raise SystemExit("the cluster has several machines: set MLFLOW_TRACKING_URI to an MLflow server")
            yield
    except ConnectionError as error:
        raise SystemExit(f"{error}: set RAY_ADDRESS to another one, or unset it to use this machine") from error


def node_environment() -> dict[str, str]:
    """Return the variables of this process that a training needs on a node: those of MLflow, S3 and DVC."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def enter_project(project: Path, environment: dict[str, str]) -> None:
    """Prepare the process of a training on a node. environment: of `node_environment`."""
    os.environ.update(environment)
    os.chdir(project)


def training_resources() -> dict[str, Any]:
    """Return `num_cpus` and `num_gpus` of a training, at most the cores of the largest node.

    Raises SystemExit if the cluster has no node with a core, or none with so many GPUs: Ray would wait without end.
    """
    wanted = nerve_parameters.read_nerve_parameters().resources
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    usable = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= wanted.num_gpus]
    if not usable:
        raise SystemExit(f"no node has a core and {wanted.num_gpus} GPUs: change nerve.resources in params.yaml")
    return {"num_cpus": min(wanted.num_cpus, max(node["CPU"] for node in usable)), "num_gpus": wanted.num_gpus}


def _submit(task: Any, training: Training, environment: str, parent_run: str) -> ray.ObjectRef:
    """Let Ray run a training. task: `_run` as Ray's task. environment: of `digest_environment`."""
    module = sys.modules[training.function.__module__]
    name = module.__spec__.name if module.__spec__ else module.__name__  # a stage runs as __main__
    return task.options(name=training.title).remote(
        Path.cwd(),
        node_environment(),
        (name, training.function.__name__),
        training.folder,
        training.inputs,
        environment,
        parent_run,
        training.arguments,
    )


def _run(
    project: Path,
    environment: dict[str, str],
    function: tuple[str, str],
    folder: Path,
    inputs: str,
    expected_environment: str,
    parent_run: str,
    arguments: tuple[Any, ...],
) -> None:
    """Run a training on a node. Its folder is complete or absent.

    Raises RuntimeError if the node has other code, data or libraries than the stage had when it began.
    """
    from importlib import import_module

    enter_project(project, environment)
    if digest_environment() != expected_environment:
        raise RuntimeError("code, data, split, resources or libraries changed, or differ on this node: run it again")
    with output_folder(folder) as unfinished:
        getattr(import_module(function[0]), function[1])(unfinished, parent_run, *arguments)
        (unfinished / INPUTS).write_text(inputs)


def _wait(tasks: list[ray.ObjectRef], trainings: list[Training]) -> list[str]:
    """Wait for all tasks; print what is finished. Return a line for each failure."""
    titles = {task: training.title for task, training in zip(tasks, trainings, strict=True)}
    failures = []
    while tasks:
        (done,), tasks = ray.wait(tasks)
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            failures.append(f"{titles[done]} failed: {str(error).strip().splitlines()[-1]}")
        print(f"{titles[done]} ended; {len(tasks)} trainings are left", flush=True)
    return failures
