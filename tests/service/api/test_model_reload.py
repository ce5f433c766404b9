"""Promotion and rollback of a champion on a running server, and rejection of a broken one. No request is lost."""

import json
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
from websockets.sync.client import connect

from service.api import model_reload
from service.api.model_reload import DeployedModel, load_and_test, previous_link
from service.errors import FrameError
from service.inference.segmenter import Segmenter
from service.model.card import Card
from service.rendering.image_encoding import encode_png
from tests.conftest import RunningServer, free_port, serving, start
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


def readiness(server: RunningServer) -> httpx.Response:
    return httpx.get(f"{server.address}/readyz", timeout=60)


def is_ready(server: RunningServer) -> bool:
    """Whether both workers say so: each request may go to either."""
    return all(readiness(server).status_code == 200 for _ in range(8))


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
        wait_until(lambda: server.log.read_text().count("nerve-unet 7 is served instead") == 2)
        assert deployed_version(server) == "7"
    assert reason in server.log.read_text()
    assert {response.status_code for response in client.responses} == {200}


def test_a_server_starts_with_the_previous_champion_and_then_serves_the_repaired_one(link, tmp_path) -> None:
    assert run_champion_command(link, "promote", str(tmp_path / "8")).returncode == 0
    network = (tmp_path / "8" / "unet.onnx").read_bytes()
    truncate_network(tmp_path / "8")
    with serving(link, tmp_path) as server:
        assert is_deployed(server, "7")
        wait_until(lambda: "served model is nerve-unet 7" in readiness(server).text)
        assert "not the one in champion: 8/unet.onnx is not the file" in readiness(server).text
        assert readiness(server).status_code == 200
        (tmp_path / "8" / "unet.onnx").write_bytes(network)
        wait_until(lambda: is_deployed(server, "8"))
        wait_until(lambda: readiness(server).text == "ready: nerve-unet 8\n")


def test_a_server_without_a_model_waits_for_one(link, tmp_path, speckle) -> None:
    """The link dangles, and there is no previous champion."""
    link.unlink()
    link.symlink_to(tmp_path / "later")
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as log_file:
        process = start(link, port, log_file)
        server = RunningServer(f"http://127.0.0.1:{port}", process, log)
        try:
            wait_until(lambda: log.read_text().count("initialized") == 2)
            workers = server.workers()
            check_errors_without_a_model(server, encode_png(speckle(1)))
            assert "no model is served: later is missing" in readiness(server).text
            assert str(tmp_path) not in readiness(server).text
            assert f"{tmp_path / 'later'} is missing" in log.read_text() and "make demo" in log.read_text()
            shutil.copytree(tmp_path / "7", tmp_path / "later")
            wait_until(lambda: is_ready(server))
            assert is_deployed(server, "7")
            assert server.workers() == workers
        finally:
            process.terminate()
            process.wait(60)


def check_errors_without_a_model(server: RunningServer, frame: bytes) -> None:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        assert client.get("/livez").status_code == 200
        for path in ("/readyz", "/model", "/docs.json", "/model/worst.png"):
            response = client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")
        assert client.post("/mask", files={"frame": frame}).json()["error"]["code"] == "not_ready"
    with connect(server.address.replace("http", "ws") + "/stream") as stream:
        stream.send(frame)
        assert json.loads(stream.recv())["error"]["code"] == "not_ready"


def test_a_file_that_is_unreadable_for_a_time_is_tried_again(link, tmp_path) -> None:
    """Its content, size and modification time stay the same."""
    network = tmp_path / "7" / "unet.onnx"
    with serving(link, tmp_path) as server:
        wait_until(lambda: server.log.read_text().count("initialized") == 2)
        network.rename(tmp_path / "network")
        network.symlink_to("/proc/self/mem")  # reading it is an error also for root
        wait_until(lambda: "not the one in champion" in readiness(server).text)
        assert is_deployed(server, "7")
        network.unlink()
        (tmp_path / "network").rename(network)
        wait_until(lambda: readiness(server).text == "ready: nerve-unet 7\n")


def test_the_pauses_between_two_attempts_grow_and_a_change_ends_them(link, tmp_path, monkeypatch) -> None:
    truncate_network(tmp_path / "7")
    attempts = []

    def count_and_load(folder: Path) -> Segmenter:
        attempts.append(folder)
        return load_and_test(folder)

    monkeypatch.setattr(model_reload, "load_and_test", count_and_load)
    model = DeployedModel(link)
    pauses = [model.pause_seconds]
    for _ in range(8):
        model.update()
        assert len(attempts) == 2 * len(pauses)  # the champion and the previous one, each time
        model.next_attempt_seconds = 0.0
        model.update()
        pauses.append(model.pause_seconds)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    (tmp_path / "7" / "unet.onnx").write_bytes(b"another half")
    model.update()
    assert model.pause_seconds == 2
    with pytest.raises(FrameError, match="no model"):
        _ = model.segmenter


def test_a_new_worker_serves_the_previous_champion_if_the_current_one_is_broken(link, tmp_path, speckle) -> None:
    assert run_champion_command(link, "promote", str(tmp_path / "8")).returncode == 0
    with serving(link, tmp_path) as server, continuous_client(server, encode_png(speckle(1))) as client:
        truncate_network(tmp_path / "8")
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda killed=worker: killed not in server.workers() and len(server.workers()) == 2)
        wait_until(lambda: server.log.read_text().count("nerve-unet 7 is served instead") >= 2)
        count = len(client.responses)
        wait_until(lambda: len(client.responses) > count + 5)
        assert deployed_version(server) == "7"
    assert client.responses[-1].status_code == 200
