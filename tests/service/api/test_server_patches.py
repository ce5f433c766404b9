"""Each patch of a foreign library is still needed, and has its effect.

A test named `..._needs_...` asserts the behaviour of the unpatched library. When it fails after an update, remove the
patch.
"""

import asyncio
import inspect
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
import uvloop
from _bentoml_impl.worker import service as bentoml_worker
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from benchmarks.hostile_connections import deflated_frames, unread_pongs
from service.api import server_patches
from service.api.idle_connection_timeout import ConnectionLimiter
from service.api.shared_socket_server import SharedSocketServer


@pytest.fixture(autouse=True)
def restore_libraries(monkeypatch) -> None:
    """Undo all patches after the test: monkeypatch restores what it has set."""
    for owner, name in (
        (TimeoutMiddleware, "__call__"),
        (uvicorn.Config, "__init__"),
        (uvloop.Loop, "create_server"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter()


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


# uvicorn's options


class Transport(asyncio.Transport):
    """A connection of a client that sends nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def pause_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def connect_to_uvicorn(protocol_class: type[asyncio.Protocol], config: uvicorn.Config) -> Any:
    """Return uvicorn's protocol of a new connection; call it in an event loop."""
    protocol: Any = protocol_class(config=config, server_state=ServerState(), app_state={})  # type: ignore[call-arg]
    protocol.connection_made(Transport())
    return protocol


def plain_config(**options: Any) -> uvicorn.Config:
    """Return a Config without the service's options."""
    return uvicorn.Config(app=None, log_config=None, **options)  # type: ignore[arg-type]


@pytest.fixture
def unpatched(monkeypatch) -> None:
    """Another test may have imported the service, which patches uvicorn."""
    monkeypatch.setattr(uvicorn.Config, "__init__", inspect.unwrap(uvicorn.Config.__init__))


def test_bentoml_needs_the_patch_because_it_passes_none_of_these_options_to_uvicorn() -> None:
    source = inspect.getsource(bentoml_worker)
    config = source[source.index("uvicorn.Config(") :]
    passed = set(re.findall(r"^\s+(\w+)=", config[: config.index("uvicorn.Server")], re.MULTILINE))
    assert "timeout_keep_alive" in passed
    assert not passed & set(server_patches.uvicorn_options())


def test_bentoml_needs_the_patch_because_its_default_ciphers_are_old() -> None:
    assert BentoMLContainer.ssl.ciphers.get() == "TLSv1"


def test_uvicorn_needs_the_patch_because_it_has_no_timeout_for_the_first_request(unpatched) -> None:
    async def timers() -> list[asyncio.TimerHandle]:
        protocol = connect_to_uvicorn(HttpToolsProtocol, plain_config())
        assert protocol.timeout_keep_alive_task is None
        return list(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    assert asyncio.run(timers()) == []


async def endless_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        (b"GET /" + b"a" * 100_000, lambda protocol: len(protocol.url)),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, lambda protocol: 10 * len(protocol.headers)),
        (b"GET / HTTP/1.1\r\n\r\n" * 1000, lambda protocol: 100 * len(protocol.pipeline)),
    ],
)
def test_uvicorn_needs_the_patch_because_it_holds_whatever_it_is_sent(unpatched, sent, held) -> None:
    async def scene() -> None:
        config = uvicorn.Config(app=endless_app, log_config=None)
        protocol = connect_to_uvicorn(HttpToolsProtocol, config)
        protocol.data_received(sent)
        assert held(protocol) > 90_000
        assert protocol.transport.written == b""

    asyncio.run(scene())


def test_uvicorn_needs_the_patch_because_it_reads_and_inflates_frames_before_the_handshake(unpatched) -> None:
    async def scene() -> None:
        config = uvicorn.Config(app=endless_app, log_config=None)
        config.load()
        protocol = connect_to_uvicorn(WebSocketsSansIOProtocol, config)
        for data in deflated_frames():
            protocol.data_received(data)
        received = [protocol.queue.get_nowait() for _ in range(protocol.queue.qsize())]
        assert sum(len(event.get("bytes", b"")) for event in received) > 200 * 2**20

    asyncio.run(scene())


def test_uvicorn_needs_the_patch_because_it_sends_pongs_that_nobody_takes(unpatched) -> None:
    async def accepting_app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await receive()

    async def scene() -> None:
        config = uvicorn.Config(app=accepting_app, log_config=None)
        config.load()
        protocol = connect_to_uvicorn(WebSocketsSansIOProtocol, config)
        pings = unread_pongs()
        protocol.data_received(next(pings))
        await asyncio.sleep(0.01)
        protocol.pause_writing()
        for _ in range(100):
            protocol.data_received(next(pings))
        assert protocol.transport.get_write_buffer_size() > 5 * 2**20
        protocol.stop_keepalive()

    asyncio.run(scene())


def test_uvicorn_needs_the_patch_because_it_believes_every_process_of_the_machine(unpatched, monkeypatch) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert "127.0.0.1" in plain_config().forwarded_allow_ips


@pytest.mark.parametrize("proxies", ["", "192.0.2.7"])
def test_every_config_has_the_options_of_the_service(unpatched, monkeypatch, proxies) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxies)
    server_patches.configure_uvicorn()
    config = plain_config(timeout_keep_alive=7, ssl_ciphers="TLSv1")
    assert config.timeout_keep_alive == 7
    options = server_patches.uvicorn_options()
    assert {name: getattr(config, name) for name in options} == options
    assert config.forwarded_allow_ips == proxies


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
