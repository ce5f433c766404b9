"""Promotion and rollback of a champion on a running server, and rejection of a broken one. No request is lost."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.api.deployed_model import previous_link
from service.model.card import Card
from service.rendering.images import encode_png
from tests.conftest import RunningServer, serving
from tests.service.continuous_client import continuous_client, wait_until

pytestmark = [pytest.mark.server, pytest.mark.serial]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def link(model_folder: Path, tmp_path: Path) -> Path:
    """A symbolic link to version 7 of a champion, which is the folder `7`; version 8 is the folder `8` beside it."""
    for version in ("7", "8"):
        folder = Path(shutil.copytree(model_folder, tmp_path / version))
        replace(Card.read(folder), version=version).write(folder)
    (tmp_path / "champion").symlink_to(tmp_path / "7")
    return tmp_path / "champion"


def deployed_version(server: RunningServer) -> str:
    return str(httpx.get(f"{server.address}/model", timeout=60).json()["version"])


def is_deployed(server: RunningServer, version: str) -> bool:
    """Whether both workers serve this version: each request may go to either."""
    return all(deployed_version(server) == version for _ in range(8))


def run_champion_command(link: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.champion", *arguments],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(link)},
        capture_output=True,
        text=True,
    )


def test_promotion_and_rollback_lose_no_request(link, tmp_path, speckle) -> None:
    with serving(link, tmp_path) as server, continuous_client(server, encode_png(speckle(1))) as client:
        completed = run_champion_command(link, "promote", str(tmp_path / "8"))
        assert completed.returncode == 0, completed.stderr
        wait_until(lambda: is_deployed(server, "8"))
        assert run_champion_command(link, "rollback").returncode == 0
        wait_until(lambda: is_deployed(server, "7"))
    assert client.errors == []
    assert {response.status_code for response in client.responses} == {200}
    assert {response.headers["x-model-version"] for response in client.responses} == {"7", "8"}
    assert len({response.content for response in client.responses}) == 1


def test_the_link_stays_valid_when_its_folder_moves(link, tmp_path) -> None:
    """Promotion runs on a host, and a container sees the same folder under another path."""
    host, container = tmp_path / "host", tmp_path / "container"
    host.mkdir()
    for version in ("7", "8"):
        (tmp_path / version).rename(host / version)
    assert run_champion_command(host / "serving", "promote", str(host / "8")).returncode == 0  # creates the link
    assert run_champion_command(host / "serving", "promote", str(host / "7")).returncode == 0
    host.rename(container)
    with serving(container / "serving", tmp_path) as server:
        assert deployed_version(server) == "7"
        assert run_champion_command(container / "serving", "rollback").returncode == 0
        wait_until(lambda: is_deployed(server, "8"))
    assert previous_link(container / "serving").resolve() == container / "7"


def test_a_folder_is_not_replaced_by_a_link(link, tmp_path) -> None:
    completed = run_champion_command(tmp_path / "7", "promote", str(tmp_path / "8"))
    assert completed.returncode == 1
    assert "NERVEMASK_MODEL" in completed.stderr
    assert not (tmp_path / "7").is_symlink()


def test_rollback_needs_a_previous_champion(link) -> None:
    completed = run_champion_command(link, "rollback")
    assert completed.returncode == 1
    assert completed.stderr == f"nervemask: {previous_link(link)} does not exist: there is no previous champion.\n"


def invert_self_test_masks(folder: Path) -> None:
    masks = np.load(folder / "self_test_masks.float32.npy")
    np.save(folder / "self_test_masks.float32.npy", 255 - masks)
    replace(Card.read(folder.parent / "7"), version="8").write(folder)


def truncate_network(folder: Path) -> None:
    (folder / "unet.onnx").write_bytes(b"half a")


@pytest.mark.parametrize(
    ("damage", "reason"), [(invert_self_test_masks, "self-test"), (truncate_network, "unet.onnx is not the file")]
)
def test_a_broken_champion_is_rejected(link, tmp_path, speckle, damage, reason) -> None:
    damage(tmp_path / "8")
    completed = run_champion_command(link, "promote", str(tmp_path / "8"))
    assert completed.returncode == 1
    assert reason in completed.stderr
    assert link.resolve() == tmp_path / "7"
    assert not previous_link(link).exists()
    with serving(link, tmp_path) as server, continuous_client(server, encode_png(speckle(1))) as client:
        wait_until(lambda: server.log.read_text().count("initialized") == 2)
        link.unlink()  # by hand, without the self-test of `promote`
        link.symlink_to(tmp_path / "8")
        wait_until(lambda: server.log.read_text().count("version 7 stays deployed") == 2)
        assert deployed_version(server) == "7"
    assert reason in server.log.read_text()
    assert {response.status_code for response in client.responses} == {200}


def test_a_new_worker_serves_the_previous_champion_if_the_current_one_is_broken(link, tmp_path, speckle) -> None:
    assert run_champion_command(link, "promote", str(tmp_path / "8")).returncode == 0
    with serving(link, tmp_path) as server, continuous_client(server, encode_png(speckle(1))) as client:
        truncate_network(tmp_path / "8")
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda killed=worker: killed not in server.workers() and len(server.workers()) == 2)
        wait_until(lambda: server.log.read_text().count("The previous champion is served instead") >= 2)
        count = len(client.responses)
        wait_until(lambda: len(client.responses) > count + 5)
        assert deployed_version(server) == "7"
    assert client.responses[-1].status_code == 200
