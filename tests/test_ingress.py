"""A pod behind the ingress controller, by the manifest's settings: its clients, and keys that come by a Secret."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from service.keys import FREE_TRIES
from tests.conftest import Serving, serving
from tests.test_deploy import DEPLOY, SERVICES

CONTROLLER = "127.0.0.2"  # anybody but 127.0.0.1, which is believed without a setting
(CONTAINER,) = yaml.safe_load((DEPLOY / "kubernetes/base/deployment.yaml").read_text())["spec"]["template"]["spec"][
    "containers"
]
SET = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


def project(volume: Path, text: str, name: str) -> None:
    """Put the Secret's file in the place of the one before as a kubelet does: by a link to a folder of both."""
    (volume / name).mkdir(parents=True)
    (volume / name / "keys").write_text(text)
    (volume / "..data_tmp").symlink_to(name)
    (volume / "..data_tmp").rename(volume / "..data")
    if not (volume / "keys").is_symlink():
        (volume / "keys").symlink_to("..data/keys")


def add(file: Path, name: str) -> str:
    """A new key, as somebody makes it at the Secret's source."""
    command = [sys.executable, "-m", "service.keys", "add", name]
    environment = os.environ | {"NERVEMASK_KEYS": str(file)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pod")
    add(folder / "source", "ward-3")
    project(folder / "volume", (folder / "source").read_text(), "..2026_01")
    return folder


@pytest.fixture(scope="module")
def pod(model_folder, home) -> Iterator[Serving]:
    here = {"NERVEMASK_KEYS": str(home / "volume" / Path(SET["NERVEMASK_KEYS"]).name)}
    with serving(model_folder, home, **SET | here | {"NERVEMASK_AUDIT": str(home / "audit")}) as server:
        yield server


def ask(address: str, client: str, key: str) -> int:
    """The status of an answer to what the controller passes on for `client`."""
    headers = {"x-forwarded-for": client, "x-api-key": key}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=CONTROLLER), headers=headers) as controller:
        return controller.get(f"{address}/model").status_code


def test_clients_behind_the_ingress_are_told_apart(pod, home) -> None:
    guesses = [ask(pod.address, "192.0.2.1", "wrong") for _ in range(4 * FREE_TRIES)]
    assert 429 in guesses  # of either worker: each counts for itself
    assert ask(pod.address, "192.0.2.2", "wrong") == 401
    lines = [json.loads(line) for line in (home / "audit").read_text().splitlines()]
    assert {line["client"] for line in lines} == {"192.0.2.1", "192.0.2.2"}


def test_a_key_gets_in_with_the_secret_and_without_a_restart(pod, home) -> None:
    (mount,) = (mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "keys")
    assert "subPath" not in mount and Path(SET["NERVEMASK_KEYS"]).parent == Path(mount["mountPath"])
    key = add(home / "source", "ward-4")
    assert ask(pod.address, "192.0.2.3", key) == 401
    project(home / "volume", (home / "source").read_text(), "..2026_02")
    assert [ask(pod.address, "192.0.2.3", key) for _ in range(8)] == [200] * 8


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_compose_believes_nobody_unless_told(name) -> None:
    assert SERVICES[name]["environment"]["FORWARDED_ALLOW_IPS"] == "${FORWARDED_ALLOW_IPS:-127.0.0.1,::1}"
