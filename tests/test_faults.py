"""Faults of a running server: told to stop, a worker killed, another champion in the folder; nobody loses an answer."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from service.__main__ import DRAIN_SECONDS
from service.card import Card
from service.champion import before
from service.pictures import png
from tests.conftest import Serving, command_line, free_port, serving, start, wait_until_ready

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
PNG = {"content-type": "image/png"}


@pytest.fixture
def versions(model_folder: Path, tmp_path: Path) -> Path:
    """A link to version 7, with version 8 beside it."""
    for version in ("7", "8"):
        folder = Path(shutil.copytree(model_folder, tmp_path / version))
        replace(Card.read(folder), version=version).write(folder)
    (tmp_path / "champion").symlink_to(tmp_path / "7")
    return tmp_path / "champion"


class Asking:
    """A client that asks without end, and notes each answer."""

    def __init__(self, address: str, frame: bytes):
        self.address, self.frame = address, frame
        self.answers: list[httpx.Response] = []
        self.unanswered: list[Exception] = []

    def until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.answers.append(httpx.post(f"{self.address}/mask", content=self.frame, headers=PNG))
            except httpx.TransportError as fault:
                self.unanswered.append(fault)
                stop.wait(0.05)


@contextmanager
def asked(server: Serving, frame: bytes) -> Iterator[Asking]:
    asking, stop = Asking(server.address, frame), threading.Event()
    thread = threading.Thread(target=asking.until, args=(stop,))
    thread.start()
    try:
        yield asking
    finally:
        stop.set()
        thread.join()


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def version(server: Serving) -> str:
    return str(httpx.get(f"{server.address}/model").json()["version"])


def command(link: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.champion", *arguments],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(link)},
        capture_output=True,
        text=True,
    )


def test_another_champion_is_taken_in_and_back_without_losing_a_request(versions, tmp_path, speckle) -> None:
    with serving(versions, tmp_path) as server, asked(server, png(speckle(1))) as asking:
        done = command(versions, "use", str(tmp_path / "8"))
        assert done.returncode == 0, done.stderr
        wait_for(lambda: [version(server) for _ in range(8)] == ["8"] * 8)
        assert command(versions, "back").returncode == 0
        wait_for(lambda: [version(server) for _ in range(8)] == ["7"] * 8)
    assert asking.unanswered == []
    assert {answer.status_code for answer in asking.answers} == {200}
    assert {answer.headers["x-model-version"] for answer in asking.answers} == {"7", "8"}
    assert len({answer.content for answer in asking.answers}) == 1


def test_a_link_holds_wherever_its_folder_is_mounted(versions, tmp_path) -> None:
    """Turned below one path and served below another, as on a host and in its container."""
    host, inside = tmp_path / "host", tmp_path / "inside"
    host.mkdir()
    for name in ("7", "8"):
        (tmp_path / name).rename(host / name)
    assert command(host / "serving", "use", str(host / "8")).returncode == 0  # there was no link
    assert command(host / "serving", "use", str(host / "7")).returncode == 0
    host.rename(inside)
    with serving(inside / "serving", tmp_path) as server:
        assert version(server) == "7"
        assert command(inside / "serving", "back").returncode == 0
        wait_for(lambda: [version(server) for _ in range(8)] == ["8"] * 8)
    assert before(inside / "serving").resolve() == inside / "7"


def test_a_folder_is_not_turned_into_a_link(versions, tmp_path) -> None:
    done = command(tmp_path / "7", "use", str(tmp_path / "8"))
    assert done.returncode == 1
    assert "NERVEMASK_MODEL" in done.stderr
    assert not (tmp_path / "7").is_symlink()


def unknown(folder: Path) -> None:
    """Its known frames get other masks than they must."""
    masks = np.load(folder / "known_masks.float32.npy")
    np.save(folder / "known_masks.float32.npy", 255 - masks)
    replace(Card.read(folder.parent / "7"), version="8").write(folder)


def torn(folder: Path) -> None:
    (folder / "unet.onnx").write_bytes(b"half a")


@pytest.mark.parametrize(("spoil", "word"), [(unknown, "self-test"), (torn, "sha256 differs")])
def test_a_champion_that_fails_is_not_taken_in(versions, tmp_path, speckle, spoil, word) -> None:
    spoil(tmp_path / "8")
    refused = command(versions, "use", str(tmp_path / "8"))
    assert refused.returncode == 1
    assert word in refused.stderr
    assert versions.resolve() == tmp_path / "7"
    assert not before(versions).exists()
    with serving(versions, tmp_path) as server, asked(server, png(speckle(1))) as asking:
        wait_for(lambda: server.log.read_text().count("initialized") == 2)
        versions.unlink()  # by hand, without the check
        versions.symlink_to(tmp_path / "8")
        wait_for(lambda: server.log.read_text().count("the champion stays version 7") == 2)
        assert version(server) == "7"
    assert word in server.log.read_text()
    assert {answer.status_code for answer in asking.answers} == {200}


def test_a_worker_that_replaces_a_killed_one_does_not_fail_on_a_broken_champion(versions, tmp_path, speckle) -> None:
    assert command(versions, "use", str(tmp_path / "8")).returncode == 0
    with serving(versions, tmp_path) as server, asked(server, png(speckle(1))) as asking:
        torn(tmp_path / "8")
        killed = server.workers()
        for one in killed:
            os.kill(one, signal.SIGKILL)
            wait_for(lambda gone=one: gone not in server.workers() and len(server.workers()) == 2)
        wait_for(lambda: server.log.read_text().count("The champion before it is served") >= 2)
        count = len(asking.answers)
        wait_for(lambda: len(asking.answers) > count + 5)
        assert version(server) == "7"
    assert asking.answers[-1].status_code == 200


def test_a_killed_worker_is_replaced_and_the_other_answers(model_folder, tmp_path, speckle) -> None:
    with serving(model_folder, tmp_path, BENTOML_CONTAINERIZED="true") as server:
        first = server.workers()
        assert len(first) == 2
        wait_for(lambda: bool(psutil.Process(first[0]).children()))  # ready is who is first; the other may be loading
        decoders = psutil.Process(first[0]).children()
        with asked(server, png(speckle(1))) as asking:
            os.kill(first[0], signal.SIGKILL)
            wait_for(lambda: first[0] not in server.workers() and len(server.workers()) == 2)
            count = len(asking.answers)
            wait_for(lambda: len(asking.answers) > count + 20)
        wait_for(lambda: not any(command_line(one) for one in decoders))
        assert len(asking.unanswered) <= 1  # what the killed one had in hand
        assert {answer.status_code for answer in asking.answers} == {200}
        told = httpx.get(f"{server.address}/metrics").text
        assert "nervemask_under_way 0.0" in told


def test_connections_are_shared_by_the_workers(model_folder, tmp_path) -> None:
    """Many that come while both are away: whoever wakes first does not take them all."""
    with serving(model_folder, tmp_path) as server, ExitStack() as stack:
        host, port = server.address.removeprefix("http://").split(":")
        workers = [psutil.Process(one) for one in server.workers()]

        def connect(stack: ExitStack) -> None:
            stack.enter_context(socket.create_connection((host, int(port))))

        def taken() -> list[int]:
            at = [
                [one.laddr.port for one in worker.net_connections() if one.status == "ESTABLISHED"]
                for worker in workers
            ]
            return [ports.count(int(port)) for ports in at]

        with ExitStack() as first:  # ready is who is first; the other may be loading

            def both_take() -> bool:
                connect(first)
                return min(taken()) > 0

            wait_for(both_take)
        wait_for(lambda: sum(taken()) == 0)
        for worker in workers:
            worker.suspend()
        for _ in range(64):
            connect(stack)
        for worker in workers:
            worker.resume()
        wait_for(lambda: sum(taken()) == 64)
        assert min(taken()) >= 8


def test_told_to_stop_it_answers_what_it_has_taken_and_ends(model_folder, tmp_path) -> None:
    """Uploads that are half here when the word comes are read to their end and answered."""
    frame = png(np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8))

    with serving(model_folder, tmp_path) as server:
        halfway, stopped = threading.Barrier(9), threading.Event()

        def slowly() -> Iterator[bytes]:
            yield frame[: len(frame) // 2]
            halfway.wait(20)
            stopped.wait(20)
            yield frame[len(frame) // 2 :]

        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{server.address}/mask", content=slowly(), headers=PNG, timeout=30))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        halfway.wait(20)
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.5)
        stopped.set()
        [thread.join() for thread in threads]
        assert [answer.status_code for answer in answers] == [200] * 8
        server.process.wait(20)
    assert not psutil.pid_exists(server.process.pid)


def test_told_to_stop_it_does_not_wait_for_idlers(model_folder, tmp_path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as said:
        server = start(model_folder, port, said)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server)
            with socket.create_connection(("127.0.0.1", port)) as idler:
                head = b"POST /mask HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
                idler.sendall(head + b"x")
                time.sleep(0.2)
                server.terminate()
                server.wait(DRAIN_SECONDS + 10)
        finally:
            server.kill()
