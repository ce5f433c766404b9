"""The worker processes of a running server: a crash, shared connections, and the end after SIGTERM."""

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest

from service.__main__ import DRAIN_SECONDS
from service.rendering.image_encoding import encode_png
from service.resources.process_limits import NO_CORE_BYTES
from tests.conftest import command_line, free_port, serving, start, wait_until_ready
from tests.service.continuous_client import PNG, continuous_client, wait_until

pytestmark = [pytest.mark.server, pytest.mark.serial]


def test_a_killed_worker_is_replaced_while_the_other_answers(model_folder, tmp_path, speckle) -> None:
    with serving(model_folder, tmp_path, BENTOML_CONTAINERIZED="true") as server:
        workers = server.workers()
        assert len(workers) == 2
        # The server is ready when its first worker is; the second may still be loading.
        wait_until(lambda: bool(psutil.Process(workers[0]).children()))
        decoders = psutil.Process(workers[0]).children()
        with continuous_client(server, encode_png(speckle(1))) as client:
            os.kill(workers[0], signal.SIGKILL)
            wait_until(lambda: workers[0] not in server.workers() and len(server.workers()) == 2)
            count = len(client.responses)
            wait_until(lambda: len(client.responses) > count + 20)
        wait_until(lambda: not any(command_line(decoder) for decoder in decoders))
        assert len(client.errors) <= 1  # the request that the killed worker was answering
        assert {response.status_code for response in client.responses} == {200}
        metrics = httpx.get(f"{server.address}/metrics", timeout=60).text
        assert "nervemask_requests_running 0.0" in metrics


def test_both_workers_take_connections(model_folder, tmp_path) -> None:
    """Also of many connections that arrive while both workers are suspended: the first to wake must not take all."""
    with serving(model_folder, tmp_path) as server, ExitStack() as connections:
        host, port = server.address.removeprefix("http://").split(":")
        workers = [psutil.Process(worker) for worker in server.workers()]

        def connect(stack: ExitStack) -> None:
            stack.enter_context(socket.create_connection((host, int(port))))

        def accepted() -> list[int]:
            """Number of open connections of each worker."""
            local_ports = [
                [connection.laddr.port for connection in worker.net_connections() if connection.status == "ESTABLISHED"]
                for worker in workers
            ]
            return [ports.count(int(port)) for ports in local_ports]

        with ExitStack() as first_connections:  # the second worker may still be loading

            def both_accept() -> bool:
                connect(first_connections)
                return min(accepted()) > 0

            wait_until(both_accept)
        wait_until(lambda: sum(accepted()) == 0)
        for worker in workers:
            worker.suspend()
        for _ in range(64):
            connect(connections)
        for worker in workers:
            worker.resume()
        wait_until(lambda: sum(accepted()) == 64)
        assert min(accepted()) >= 8


def test_uploads_in_progress_at_sigterm_get_their_response(model_folder, tmp_path) -> None:
    frame = encode_png(np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8))

    with serving(model_folder, tmp_path) as server:
        half_sent, terminated = threading.Barrier(9), threading.Event()

        def upload() -> Iterator[bytes]:
            yield frame[: len(frame) // 2]
            half_sent.wait(60)
            terminated.wait(60)
            yield frame[len(frame) // 2 :]

        responses: list[httpx.Response] = []

        def post() -> None:
            responses.append(httpx.post(f"{server.address}/mask", content=upload(), headers=PNG, timeout=60))

        threads = [threading.Thread(target=post) for _ in range(8)]
        [thread.start() for thread in threads]
        half_sent.wait(60)
        time.sleep(0.5)
        server.process.terminate()
        time.sleep(0.5)
        terminated.set()
        [thread.join() for thread in threads]
        assert [response.status_code for response in responses] == [200] * 8
        server.process.wait(60)
    assert not psutil.pid_exists(server.process.pid)


def test_an_idle_upload_does_not_delay_the_end(model_folder, tmp_path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = start(model_folder, port, log)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server)
            with socket.create_connection(("127.0.0.1", port)) as idle:
                head = (
                    b"POST /mask HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
                )
                idle.sendall(head + b"x")
                time.sleep(0.2)
                server.terminate()
                server.wait(DRAIN_SECONDS + 10)
        finally:
            server.kill()


def test_all_processes_end_with_the_supervisor(model_folder, tmp_path, speckle) -> None:
    """Outside a container nobody else would end them, and they would keep the port."""
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = start(model_folder, port, log)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server)
            supervisor = psutil.Process(server.pid)
            wait_until(lambda: len(supervisor.children(recursive=True)) >= 4)  # two workers and their decoders
            processes = supervisor.children(recursive=True)
        finally:
            server.kill()
            server.wait(60)
    wait_until(lambda: not any(command_line(process) for process in processes))
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.fixture
def core_dumps_allowed() -> Iterator[None]:
    """Processes of this test may write core dumps as far as the system allows it."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


def test_no_process_leaves_a_core_dump(model_folder, tmp_path, core_dumps_allowed) -> None:
    """A core dump of a worker or decoder process holds patients' frames."""
    with serving(model_folder, tmp_path) as server:
        wait_until(lambda: len(psutil.Process(server.process.pid).children(recursive=True)) >= 4)
        for process in psutil.Process(server.process.pid).children(recursive=True):
            if {"_bentoml_impl.worker.service", "service.decoding.decoder_process"} & set(command_line(process)):
                assert set(process.rlimit(psutil.RLIMIT_CORE)) <= {0, NO_CORE_BYTES}
