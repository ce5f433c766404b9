"""Three services behind HAProxy: they are replaced one by one under load, and no request is lost."""

import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests import frames
from tests.conftest import MAX_STOP_SECONDS, ROOT, RunningServer, free_port, start, wait_until_ready
from tests.service.continuous_client import ContinuousClient, wait_until

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("haproxy"), reason="HAProxy is not installed (Debian's package haproxy)"),
]

CONFIGURATION = ROOT / "deploy/haproxy/load_balancer.cfg"
SERVICES, CLIENTS = 3, 4


class Service:
    """One of the services; it keeps its port when it is replaced."""

    def __init__(self, model: Path, folder: Path):
        self.model, self.folder, self.port = model, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {"NERVEMASK_WORKERS": "1", "NERVEMASK_AUDIT": str(self.folder / "audit")}
        with (self.folder / "log").open("ab") as log:
            self.process = start(self.model, self.port, log, **environment)
        wait_until_ready(f"http://127.0.0.1:{self.port}", self.process)

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(MAX_STOP_SECONDS)


@pytest.fixture
def services(model_folder: Path, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        services = []
        for number in range(SERVICES):
            (tmp_path / str(number)).mkdir()
            services.append(Service(model_folder, tmp_path / str(number)))
            services[-1].start()
            stack.callback(services[-1].stop)
        yield services


@pytest.fixture
def balancer(services: list[Service], tmp_path: Path) -> Iterator[RunningServer]:
    port = free_port()
    environment = {f"SERVICE_{number}": f"127.0.0.1:{one.port}" for number, one in enumerate(services, start=1)}
    environment |= {"LISTEN": f"127.0.0.1:{port}", "ADMIN_SOCKET": str(tmp_path / "haproxy.sock")}
    command = [str(shutil.which("haproxy")), "-f", str(CONFIGURATION)]
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield RunningServer(f"http://127.0.0.1:{port}", process, Path())
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def load(address: str) -> Iterator[list[ContinuousClient]]:
    """Send requests without a pause from CLIENTS clients during the block."""
    frame, stop = frames.png(frames.speckle(1, 100, 120)), threading.Event()
    clients = [ContinuousClient(address, frame) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def set_state(admin_socket: Path, number: int, state: str) -> None:
    """Set the state of a service as an administrator does."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(admin_socket))
        admin.sendall(f"set server services/service{number} state {state}\n".encode())
        assert admin.recv(1000) == b"\n"


def test_services_are_replaced_one_by_one_without_a_lost_request(services, balancer, tmp_path) -> None:
    with load(balancer.address) as clients:
        for number, service in enumerate(services, start=1):
            wait_until(lambda: all(len(client.responses) > 20 for client in clients))
            set_state(tmp_path / "haproxy.sock", number, "drain")
            time.sleep(1)  # for the requests that it has
            service.stop()
            service.start()
            set_state(tmp_path / "haproxy.sock", number, "ready")
            time.sleep(2)  # until the balancer uses it again
    statuses = Counter(response.status_code for client in clients for response in client.responses)
    assert statuses.keys() == {200}, statuses
    assert [error for client in clients for error in client.errors] == []
    assert all((service.folder / "audit").read_text().count('"status":200') > 20 for service in services)


def test_a_killed_service_costs_only_the_requests_that_it_had(services, balancer) -> None:
    with load(balancer.address) as clients:
        wait_until(lambda: all(len(client.responses) > 20 for client in clients))
        assert services[0].process
        for process in [*psutil.Process(services[0].process.pid).children(recursive=True), services[0].process]:
            process.kill()
        time.sleep(3)
        before = sum(len(client.responses) for client in clients)
        wait_until(lambda: sum(len(client.responses) for client in clients) > before + 100)
    failed = [response for client in clients for response in client.responses if response.status_code != 200]
    assert len(failed) + sum(len(client.errors) for client in clients) <= CLIENTS
    assert {response.status_code for response in failed} <= {502, 503}
    assert httpx.get(f"{balancer.address}/readyz").status_code == 200
