"""/readyz says what keeps the service from returning masks, and no longer when it is repaired. Masks never hang."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.api.api_key_file import hash_key, write_key_hashes
from service.rendering.image_encoding import encode_png
from tests.conftest import RunningServer, free_port, serving, wait_until_ready
from tests.service.api.asgi import PNG
from tests.service.continuous_client import wait_until

pytestmark = [pytest.mark.server, pytest.mark.serial]

ROOT = Path(__file__).parents[3]
KEY = {"x-api-key": "the key of the PACS"}


def readiness(server: RunningServer) -> httpx.Response:
    return httpx.get(f"{server.address}/readyz", timeout=60)


def agree(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return whether a condition is true in both workers: each request may go to either."""
    return lambda: all(condition() for _ in range(8))


def is_ready(server: RunningServer) -> Callable[[], bool]:
    return agree(lambda: readiness(server).status_code == 200)


def names(server: RunningServer, problem: str) -> Callable[[], bool]:
    return agree(lambda: readiness(server).status_code == 503 and problem in readiness(server).text)


def wait_for_both_workers(server: RunningServer) -> None:
    wait_until(lambda: server.log.read_text().count("initialized") == 2)


def test_an_audit_log_that_cannot_be_written_is_named_until_it_can(model_folder, tmp_path, speckle) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    frame = encode_png(speckle(1))
    with serving(model_folder, tmp_path, NERVEMASK_AUDIT=str(folder / "audit.jsonl")) as server:
        wait_for_both_workers(server)
        folder.rename(tmp_path / "away")
        wait_until(names(server, "the audit log cannot be written: No such file or directory"))
        assert httpx.get(f"{server.address}/livez").status_code == 200
        assert httpx.post(f"{server.address}/mask", content=frame, headers=PNG).status_code == 503
        assert 'nervemask_problem{kind="audit"} 1.0' in httpx.get(f"{server.address}/metrics", timeout=60).text
        (tmp_path / "away").rename(folder)
        wait_until(is_ready(server))
        assert httpx.post(f"{server.address}/mask", content=frame, headers=PNG).status_code == 200
    events = [json.loads(line).get("event") for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert events == ["lost_lines", None]


def test_standard_output_that_nobody_reads_hangs_no_mask(model_folder, tmp_path, speckle) -> None:
    port, lines = free_port(), []
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    server = RunningServer(f"http://127.0.0.1:{port}", process, tmp_path / "log")
    frame, masks = encode_png(speckle(1)), 0
    try:
        wait_until_ready(server.address, process)
        with httpx.Client(base_url=server.address, timeout=60) as client:
            while (response := client.post("/mask", content=frame, headers=PNG)).status_code == 200:
                masks += 1
        assert response.json()["error"]["code"] == "no_audit"
        wait_until(names(server, "nobody reads standard output"))
        assert httpx.post(f"{server.address}/mask", content=frame, headers=PNG, timeout=60).status_code == 503
        assert process.stdout
        reading = threading.Thread(target=lambda: lines.extend(process.stdout))  # type: ignore[arg-type]
        reading.start()
        wait_until(is_ready(server))
        assert httpx.post(f"{server.address}/mask", content=frame, headers=PNG, timeout=60).status_code == 200
    finally:
        process.terminate()
        process.wait(60)
    reading.join()
    audit_lines = [json.loads(line) for line in lines if line.startswith(b"{")]
    assert sum("mask" in line for line in audit_lines) >= masks + 1


def test_a_lost_file_of_keys_is_named(model_folder, tmp_path) -> None:
    """The last keys stay valid, but a worker that starts now has none."""
    keys = tmp_path / "keys.txt"
    write_key_hashes(keys, {"pacs": hash_key(KEY["x-api-key"])})
    with serving(model_folder, tmp_path, NERVEMASK_KEYS=str(keys)) as server:
        wait_for_both_workers(server)
        keys.rename(tmp_path / "away.txt")
        wait_until(agree(lambda: "the last keys stay valid" in readiness(server).text))
        assert readiness(server).status_code == 200
        assert httpx.get(f"{server.address}/model", headers=KEY).status_code == 200
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(names(server, "there is no valid API key"))
        (tmp_path / "away.txt").rename(keys)
        wait_until(is_ready(server))
        assert httpx.get(f"{server.address}/model", headers=KEY).status_code == 200


def test_a_worker_that_hangs_is_named_and_replaced(model_folder, tmp_path) -> None:
    with serving(model_folder, tmp_path) as server:
        wait_for_both_workers(server)
        hanging = server.workers()[0]
        os.kill(hanging, signal.SIGSTOP)
        wait_until(lambda: "not ready: worker" in server.log.read_text())
        wait_until(lambda: hanging not in server.workers() and len(server.workers()) == 2)
        wait_until(is_ready(server))
    assert f"worker {hanging} does not respond" in server.log.read_text()


def test_a_service_that_is_ready_names_its_model(client) -> None:
    assert client.get("/readyz").text == "ready: nerve-unet 7\n"
    assert client.head("/readyz").status_code == 200
    assert client.post("/readyz").status_code == 405
