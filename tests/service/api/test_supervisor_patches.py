"""Each patch of BentoML's supervisor is still needed, and has its effect (see test_server_patches)."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from bentoml._internal.utils import circus
from bentoml.serving import create_watcher, running_inside_container
from circus.exc import ConflictError

from service.api import server_patches
from tests.conftest import serving


@pytest.fixture(autouse=True)
def restore_circus(monkeypatch) -> None:
    """Undo the patches after the test."""
    monkeypatch.setattr(circus, "Arbiter", circus.Arbiter)


@pytest.fixture
def container(monkeypatch) -> Iterator[None]:
    """The environment of BentoML's images."""
    monkeypatch.setenv("BENTOML_CONTAINERIZED", "true")
    running_inside_container.cache_clear()
    yield
    running_inside_container.cache_clear()


def test_bentoml_needs_the_patch_because_it_replaces_no_worker_in_a_container(container) -> None:
    assert create_watcher("worker", []).respawn is False


def test_a_killed_worker_is_replaced_in_a_container(container) -> None:
    server_patches.replace_killed_workers_in_containers()
    assert "BENTOML_CONTAINERIZED" not in os.environ
    assert create_watcher("worker", []).respawn is True


def test_bentoml_needs_the_patch_because_it_looks_for_killed_workers_rarely() -> None:
    assert circus.create_standalone_arbiter([]).check_delay > server_patches.WORKER_CHECK_SECONDS


def test_circus_needs_the_patch_because_a_check_while_workers_start_is_an_error() -> None:
    arbiter = circus.create_standalone_arbiter([])
    arbiter._exclusive_running_command = "arbiter_start_watchers"
    with pytest.raises(ConflictError):
        arbiter.manage_watchers()


def test_the_supervisor_looks_for_killed_workers_often_but_not_while_workers_start() -> None:
    server_patches.check_workers_often()
    arbiter = circus.create_standalone_arbiter([])
    assert arbiter.check_delay == server_patches.WORKER_CHECK_SECONDS
    arbiter._exclusive_running_command = "arbiter_start_watchers"
    assert arbiter.manage_watchers() is None


def test_bentoml_needs_the_patch_because_every_process_of_the_machine_can_control_its_supervisor() -> None:
    arbiter = circus.create_standalone_arbiter([])
    assert arbiter.endpoint.startswith("tcp://127.0.0.1:")
    assert arbiter.pubsub_endpoint.startswith("tcp://127.0.0.1:")


def test_only_this_user_controls_the_supervisor() -> None:
    server_patches.hide_supervisor_controls()
    arbiter = circus.create_standalone_arbiter([])
    for endpoint in (arbiter.endpoint, arbiter.pubsub_endpoint):
        folder = Path(endpoint.removeprefix("ipc://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.server
def test_the_service_listens_on_its_own_port_alone(model_folder, tmp_path) -> None:
    with serving(model_folder, tmp_path) as server:
        processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        connections = [connection for process in processes for connection in process.net_connections("inet")]
    ports = {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert ports == {int(server.address.rpartition(":")[2])}
