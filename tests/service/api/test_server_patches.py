"""Each patch of a foreign library is still needed, and has its effect.

A test named `..._needs_...` asserts the behaviour of the unpatched library. When it fails after an update, remove the
patch.
"""

import asyncio
import inspect
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
import uvloop
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from bentoml._internal.utils import circus
from bentoml.serving import create_watcher, running_inside_container
from circus.exc import ConflictError
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

from service.api import server_patches
from service.api.idle_connections import ConnectionLimiter
from service.api.shared_socket_server import SharedSocketServer
from service.api.upload_buffers import HighWaterLimit


@pytest.fixture(autouse=True)
def restore_libraries(monkeypatch) -> None:
    """Undo all patches after the test: monkeypatch restores what it has set."""
    for owner, name in (
        (TimeoutMiddleware, "__call__"),
        (AutoHTTPProtocol, "connection_made"),
        (httptools_impl, "HIGH_WATER_LIMIT"),
        (uvloop.Loop, "create_server"),
        (circus, "Arbiter"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter(AutoHTTPProtocol)


# BentoML's timeout


async def timers_after_response() -> list[asyncio.TimerHandle]:
    """The timers in the event loop after TimeoutMiddleware has sent a response."""

    async def send(message: Any) -> None:
        pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response()(scope, receive, send)

    await TimeoutMiddleware(app, 60)({"type": "http"}, None, send)  # type: ignore[arg-type]
    return list(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


def test_bentoml_needs_the_patch_because_its_timers_stay_after_the_response() -> None:
    assert len(asyncio.run(timers_after_response())) == 1


def test_bentoml_needs_the_patch_because_its_timeout_cannot_be_switched_off() -> None:
    from _bentoml_sdk.service.config import validate

    with pytest.raises(ValidationError):
        validate({"traffic": {"timeout": None}})


def test_without_bentomls_timeout_no_timer_stays() -> None:
    server_patches.disable_bentoml_timeout()
    assert asyncio.run(timers_after_response()) == []


# uvicorn's connections


class Transport(asyncio.Transport):
    """A connection of a client that sends nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})


async def connect_to_uvicorn() -> tuple[Any, list[asyncio.TimerHandle]]:
    """uvicorn's protocol of a new connection, and the timers in the event loop."""
    config = uvicorn.Config(lambda: None, log_config=None)
    protocol: Any = AutoHTTPProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(Transport())
    return protocol, list(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


def test_uvicorn_needs_the_patch_because_it_has_no_timeout_for_the_first_request() -> None:
    protocol, timers = asyncio.run(connect_to_uvicorn())
    assert protocol.timeout_keep_alive_task is None
    assert timers == []


def test_the_limiter_registers_every_connection(limiter) -> None:
    server_patches.limit_connections(limiter)
    protocol, _ = asyncio.run(connect_to_uvicorn())
    assert limiter.connections == {protocol}
    assert list(limiter.idle) == [protocol]


def test_uvicorn_needs_the_patch_because_it_has_no_setting_for_its_high_water_mark() -> None:
    assert httptools_impl.HIGH_WATER_LIMIT == 2**16
    assert not [name for name in inspect.signature(uvicorn.Config).parameters if "water" in name or "buffer" in name]


def test_uvicorn_compares_the_body_with_the_shared_limit(limiter) -> None:
    server_patches.share_upload_buffers(limiter)
    assert isinstance(httptools_impl.HIGH_WATER_LIMIT, HighWaterLimit)
    assert "len(self.cycle.body) > HIGH_WATER_LIMIT" in inspect.getsource(httptools_impl)


# uvloop's server


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener


def test_uvloop_needs_the_patch_because_a_worker_accepts_without_a_pause(listener) -> None:
    """One worker takes all waiting connections in as many iterations of its event loop."""
    accepted = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    async def accept_waiting_connections() -> int:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        await asyncio.get_running_loop().create_server(Protocol, sock=listener)
        for _ in range(len(clients) + 10):
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        return len(accepted)

    assert uvloop.run(accept_waiting_connections()) == 20


def test_a_socket_that_workers_share_gets_a_shared_socket_server(listener, limiter) -> None:
    server_patches.accept_one_by_one(limiter)

    async def start_server() -> bool:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listener)
        server.close()
        return isinstance(server, SharedSocketServer)

    assert uvloop.run(start_server())


# BentoML's supervisor


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
