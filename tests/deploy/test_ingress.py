"""A pod with the manifest's settings behind an ingress controller: client addresses, and API keys from a Secret."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from service.api.wrong_key_limiter import MAX_FREE_WRONG_KEYS
from tests.conftest import RunningServer, serving
from tests.deploy.test_manifests import DEPLOY

pytestmark = pytest.mark.server

CONTROLLER = "127.0.0.2"  # not 127.0.0.1, which the service trusts by default
(CONTAINER,) = yaml.safe_load((DEPLOY / "kubernetes/base/deployment.yaml").read_text())["spec"]["template"]["spec"][
    "containers"
]
ENVIRONMENT = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


def project_secret(volume: Path, text: str, name: str) -> None:
    """Replace the Secret's file as a kubelet does: a link `..data` points to the folder of the current version."""
    (volume / name).mkdir(parents=True)
    (volume / name / "keys").write_text(text)
    (volume / "..data_tmp").symlink_to(name)
    (volume / "..data_tmp").rename(volume / "..data")
    if not (volume / "keys").is_symlink():
        (volume / "keys").symlink_to("..data/keys")


def add_key(file: Path, name: str) -> str:
    """Add an API key to the file that becomes the Secret. Return the key."""
    command = [sys.executable, "-m", "service.keys", "add", name]
    environment = os.environ | {"NERVEMASK_KEYS": str(file)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def pod_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pod")
    (folder / "key").write_text(add_key(folder / "source", "ward-3"))
    project_secret(folder / "volume", (folder / "source").read_text(), "..2026_01")
    return folder


@pytest.fixture(scope="module")
def pod(model_folder, pod_folder) -> Iterator[RunningServer]:
    key_setting = {"NERVEMASK_KEYS": str(pod_folder / "volume" / Path(ENVIRONMENT["NERVEMASK_KEYS"]).name)}
    with serving(
        model_folder, pod_folder, **ENVIRONMENT | key_setting | {"NERVEMASK_AUDIT": str(pod_folder / "audit")}
    ) as server:
        yield server


def request_status(address: str, client: str, key: str) -> int:
    """Return the status of a request that the ingress controller forwards for `client`."""
    headers = {"x-forwarded-for": client, "x-api-key": key}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=CONTROLLER), headers=headers) as controller:
        return controller.get(f"{address}/model").status_code


def test_the_service_distinguishes_clients_behind_the_ingress(pod, pod_folder) -> None:
    guesses = [request_status(pod.address, "192.0.2.1", "wrong") for _ in range(4 * MAX_FREE_WRONG_KEYS)]
    assert 429 in guesses  # each worker counts on its own
    assert request_status(pod.address, "192.0.2.2", "wrong") == 401
    for client in ("192.0.2.1", "192.0.2.2"):
        assert request_status(pod.address, client, (pod_folder / "key").read_text()) == 200
    lines = [json.loads(line) for line in (pod_folder / "audit").read_text().splitlines()]
    assert {line["client"] for line in lines if line.get("route") == "/model"} == {"192.0.2.1", "192.0.2.2"}


def test_a_new_key_of_the_secret_works_without_a_restart(pod, pod_folder) -> None:
    (mount,) = (mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "keys")
    assert "subPath" not in mount and Path(ENVIRONMENT["NERVEMASK_KEYS"]).parent == Path(mount["mountPath"])
    key = add_key(pod_folder / "source", "ward-4")
    assert request_status(pod.address, "192.0.2.3", key) == 401
    project_secret(pod_folder / "volume", (pod_folder / "source").read_text(), "..2026_02")
    assert [request_status(pod.address, "192.0.2.3", key) for _ in range(8)] == [200] * 8
