"""The stores of a deployment, with real servers on loopback: MLflow with authentication, PostgreSQL, S3."""

import copy
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.conftest import free_port
from tests.object_store import CREDENTIALS, OFFLINE, PROGRAMS, run_server, running_object_store
from tests.project_copy import clean_environment, project_copy, run, toy
from training.workspace import provenance, tracking
from training.workspace.output_checksums import CHECKSUMS

pytestmark = pytest.mark.training

ROOT = Path(__file__).parents[3]
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[str]:
    """The address of an S3 server with the two buckets of compose.yaml."""
    with running_object_store(tmp_path_factory.mktemp("s3"), ("mlflow", "dvc")) as store:
        yield store.address


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    """The address of an empty database. PostgreSQL refuses to run as root, so root starts it as user `postgres`."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed (postgresql)")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, capture_output=True, cwd="/")

    port = free_port()
    with tempfile.TemporaryDirectory() as home:  # other users cannot read pytest's own folders
        if user:
            shutil.chown(home, "postgres")
        run(f"{POSTGRES}/initdb", "--pgdata", f"{home}/data", "--username", "mlflow", "--auth", "trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home} -c fsync=off"
        control = (f"{POSTGRES}/pg_ctl", "--pgdata", f"{home}/data", "--wait")
        run(*control, "--log", f"{home}/log", "--options", options, "start")
        try:
            run(f"{POSTGRES}/createdb", "--host", "127.0.0.1", "--port", str(port), "--username", "mlflow", "mlflow")
            yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            run(*control, "--mode", "fast", "stop")


@pytest.fixture(scope="module")
def mlflow_server(postgres, s3, tmp_path_factory) -> Iterator[str]:
    """The address of an MLflow server as in compose.yaml: users and runs in PostgreSQL, artifacts in S3."""
    home = tmp_path_factory.mktemp("mlflow")
    config = (ROOT / "deploy" / "mlflow" / "basic_auth.ini").read_text()
    deployed_uri = "postgresql://mlflow@postgres/mlflow"
    assert deployed_uri in config
    (home / "basic_auth.ini").write_text(config.replace(deployed_uri, postgres))
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(PROGRAMS / "mlflow"), "server", "--app-name", "basic-auth", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", postgres, "--artifacts-destination", "s3://mlflow"]
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": "twelve-letters", "MLFLOW_FLASK_SERVER_SECRET_KEY": "anything"}
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(home / "basic_auth.ini"), "MLFLOW_S3_ENDPOINT_URL": s3}
    with run_server(command, f"{address}/health", home / "log", **CREDENTIALS, **secrets, **variables):
        yield address


@pytest.fixture
def admin(mlflow_server, monkeypatch) -> None:
    """Log in as MLflow's administrator."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "twelve-letters")


def test_two_concurrent_trainings_log_all_their_runs_models_and_data_sets(mlflow_server, admin, tmp_path) -> None:
    project, candidates = write_project(tmp_path / "project")
    names = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    store = {"MLFLOW_TRACKING_URI": mlflow_server} | {name: os.environ[name] for name in names}
    environment = clean_environment() | OFFLINE | store
    command = [sys.executable, "-m", "training.fitting.train_unet"]
    trainings = [subprocess.Popen([*command, name], env=environment, cwd=project) for name in candidates]
    assert [training.wait(700) for training in trainings] == [0, 0]

    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("nerve")
    runs = {entry.info.run_name: entry for entry in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == candidates.keys()
    for name, entry in runs.items():
        folder = project / "models" / "unets" / name
        assert entry.info.status == "FINISHED"
        assert entry.data.params["recipe.batch_size"] == str(candidates[name]["recipe"]["batch_size"])
        assert entry.data.tags["weights"] == provenance.file_digest(folder / "unet.onnx")
        curve = client.get_metric_history(entry.info.run_id, "val_mask_dice")
        history = pd.read_csv(folder / "history.csv")
        assert [point.value for point in curve] == pytest.approx(list(history.val_mask_dice))
        (tmp_path / name).mkdir()
        artifacts = Path(client.download_artifacts(entry.info.run_id, "network", str(tmp_path / name)))
        assert contents(artifacts) == contents(folder)
        (model,) = entry.outputs.model_outputs
        assert client.get_logged_model(model.model_id).status == "READY"
        assert {used.dataset.name for used in entry.inputs.dataset_inputs} == {"train", "validation"}


def write_project(folder: Path) -> tuple[Path, dict[str, dict]]:
    """Return a project with prepared arrays of two candidates, and the candidates' entries in params.yaml."""
    parameters = toy(epochs=2)
    candidates = parameters["nerve"]["unets"]
    candidates["other"] = copy.deepcopy(candidates["toy"])
    for entry in candidates.values():
        entry["recipe"]["steps_per_epoch"] = 4
    candidates["other"]["recipe"]["batch_size"] = 4
    parameters["nerve"]["candidates"] = list(candidates)
    project = project_copy(folder, parameters)
    for stage in (["ingest"], ["split"], ["prepare", "toy"]):
        run(project, "python", "-m", f"training.data.{stage[0]}", *stage[1:])
    shutil.copytree(project / "data/prepared/toy", project / "data/prepared/other")  # both have the same input
    return project, candidates


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != CHECKSUMS}


def test_concurrent_runs_can_log_the_same_data_sets(mlflow_server, admin, tmp_path, monkeypatch) -> None:
    """MLflow searches for a data set, then registers it. Of concurrent requests, it rejects all but one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.chdir(tmp_path)
    tracking.use_experiment("at once")
    splits = {split: (np.zeros((1, 8, 8, 1), np.uint8),) * 2 for split in ("train", "validation")}
    trainings = 8
    all_started = threading.Barrier(trainings)

    def train(_: int) -> str:
        with mlflow.start_run() as run:
            all_started.wait(60)
            tracking.log_datasets(splits, "data/mnist")
        return run.info.run_id

    with ThreadPoolExecutor(trainings) as pool:
        run_ids = list(pool.map(train, range(trainings)))
    for run_id in run_ids:
        inputs = mlflow.get_run(run_id).inputs.dataset_inputs
        assert {entry.dataset.name for entry in inputs} == splits.keys()


def test_a_restored_backup_has_all_runs(mlflow_server, postgres, admin, tmp_path) -> None:
    """Backup, restore and upgrade of the database, with the commands of docs/deployment.md."""
    client = MlflowClient(mlflow_server)
    client.create_run(client.create_experiment("backed up"), run_name="kept")
    second = postgres.removesuffix("mlflow") + "second"
    dump = subprocess.run([f"{POSTGRES}/pg_dump", "--format=custom", postgres], capture_output=True, check=True).stdout
    subprocess.run([f"{POSTGRES}/psql", "--command", "CREATE DATABASE second", postgres], check=True)
    subprocess.run([f"{POSTGRES}/pg_restore", "--exit-on-error", "--dbname", second], input=dump, check=True)
    subprocess.run([PROGRAMS / "mlflow", "db", "upgrade", second], env=os.environ | OFFLINE, check=True)
    restored = MlflowClient(second)
    (experiment,) = restored.search_experiments(filter_string="name = 'backed up'")
    (run,) = restored.search_runs([experiment.experiment_id])
    assert run.info.run_name == "kept"


def test_mlflow_requires_a_password(mlflow_server) -> None:
    search = {"max_results": 1}
    assert httpx.post(f"{mlflow_server}/api/2.0/mlflow/experiments/search", json=search).status_code == 401
    wrong = httpx.post(f"{mlflow_server}/api/2.0/mlflow/experiments/search", json=search, auth=("admin", "wrong"))
    assert wrong.status_code == 401
    assert httpx.get(f"{mlflow_server}/health").status_code == 200


def test_dvc_pushes_data_to_s3_and_pulls_them_on_another_machine(s3, tmp_path) -> None:
    def dvc(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        call = [str(PROGRAMS / "dvc"), *command]
        return subprocess.run(
            call, cwd=folder, env=os.environ | OFFLINE | environment, capture_output=True, text=True, timeout=120
        )

    first, second = tmp_path / "first", tmp_path / "second"
    (first / "frames").mkdir(parents=True)
    for number in range(20):
        (first / "frames" / f"{number}.tif").write_bytes(number.to_bytes() * 1000)
    for command in (
        ("init", "--no-scm", "--quiet"),
        ("remote", "add", "--default", "store", "s3://dvc/frames"),
        ("remote", "modify", "store", "endpointurl", s3),
        ("add", "frames"),
        ("push",),
    ):
        result = dvc(first, *command, **CREDENTIALS)
        assert result.returncode == 0, result.stderr
    second.mkdir()
    shutil.copytree(first / ".dvc", second / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(first / "frames.dvc", second)
    rejected = dvc(second, "pull", **CREDENTIALS | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert rejected.returncode != 0 and not (second / "frames").exists()
    result = dvc(second, "pull", **CREDENTIALS)
    assert result.returncode == 0, result.stderr
    assert contents(second / "frames") == contents(first / "frames")
    assert len(contents(second / "frames")) == 20
