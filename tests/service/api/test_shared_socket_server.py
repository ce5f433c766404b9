"""Workers share the connections of one socket."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from service.api import shared_socket_server
from service.api.idle_connection_timeout import ConnectionLimiter
from service.api.shared_socket_server import (
    ACCEPTED_SHARE,
    MAX_UNSENT_BYTES,
    SharedSocketServer,
    waiting_connections,
)

ENDLESS_SECONDS = 3600.0


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_worker_accepts_one_connection_and_then_pauses(limiter, listener, monkeypatch) -> None:
    """Another worker can accept the next one meanwhile."""
    for name in ("ACCEPT_PAUSE_SECONDS", "MAX_ACCEPT_PAUSE_SECONDS"):
        monkeypatch.setattr(shared_socket_server, name, ENDLESS_SECONDS)
    accepted: list[socket.socket] = []

    async def handshake(client: socket.socket) -> None:
        accepted.append(client)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        server = SharedSocketServer(loop, listener, handshake, limiter)
        held = []
        while len(accepted) < len(clients):
            before = len(accepted)
            server._accept()
            await asyncio.sleep(0)
            held.append(len(accepted) - before)
            assert not loop.remove_reader(listener)  # the pause has removed it
        assert held == [1, 1, 1]
        server.close()
        for connection in [*clients, *accepted]:
            connection.close()

    asyncio.run(scene())


@pytest.mark.parametrize("has_idle", [True, False])
def test_a_full_worker_closes_an_idle_connection_or_leaves_the_new_one_to_others(
    limiter, listener, monkeypatch, has_idle
) -> None:
    """A connection that is not idle may have a request on its way."""
    for name in ("FULL_PAUSE_SECONDS", "ACCEPT_PAUSE_SECONDS", "MAX_ACCEPT_PAUSE_SECONDS"):
        monkeypatch.setattr(shared_socket_server, name, ENDLESS_SECONDS)
    monkeypatch.setattr(shared_socket_server, "MAX_CONNECTIONS", 1)
    idle, closed, accepted = object(), list[object](), list[socket.socket]()
    limiter.connections = {idle}
    monkeypatch.setattr(limiter, "longest_idle", lambda since: idle if has_idle else None)
    monkeypatch.setattr(limiter, "close", closed.append)

    async def connect(client: socket.socket) -> None:
        accepted.append(client)

    async def scene() -> None:
        with socket.create_connection(listener.getsockname()):
            server = SharedSocketServer(asyncio.get_running_loop(), listener, connect, limiter)
            server._accept()
            await asyncio.sleep(0)
            assert waiting_connections(listener) == (0 if has_idle else 1)
            server.close()

    asyncio.run(scene())
    assert (len(accepted), closed) == ((1, [idle]) if has_idle else (0, []))
    for client in accepted:
        client.close()


def test_of_many_waiting_connections_a_worker_accepts_a_share(limiter, monkeypatch) -> None:
    """Otherwise clients that connect again and again would make all others wait for seconds."""
    for name in ("ACCEPT_PAUSE_SECONDS", "MAX_ACCEPT_PAUSE_SECONDS"):
        monkeypatch.setattr(shared_socket_server, name, ENDLESS_SECONDS)
    accepted: list[socket.socket] = []

    async def handshake(client: socket.socket) -> None:
        accepted.append(client)

    async def scene(listener: socket.socket) -> None:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(10 * ACCEPTED_SHARE)]
        assert waiting_connections(listener) == len(clients)
        server = SharedSocketServer(asyncio.get_running_loop(), listener, handshake, limiter)
        server._accept()
        await asyncio.sleep(0)
        assert len(accepted) == 10
        assert waiting_connections(listener) == len(clients) - 10
        assert accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == MAX_UNSENT_BYTES
        server.close()
        for connection in [*clients, *accepted]:
            connection.close()

    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        asyncio.run(scene(listener))


def test_above_the_limit_the_oldest_tls_handshake_is_cancelled(limiter, listener, monkeypatch) -> None:
    monkeypatch.setattr(shared_socket_server, "MAX_TLS_HANDSHAKES", 2)

    async def endless_handshake(client: socket.socket) -> None:
        await asyncio.get_running_loop().create_future()

    async def scene() -> None:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        server = SharedSocketServer(asyncio.get_running_loop(), listener, endless_handshake, limiter)
        while len(server.handshakes) < 2:
            server._accept()
        oldest = next(iter(server.handshakes))
        server._accept()
        await asyncio.wait([oldest])
        await asyncio.sleep(0)
        assert oldest.cancelled()
        assert len(server.handshakes) == 2
        assert clients[0].recv(1) == b""
        for task in server.handshakes:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.close()
        for client in clients:
            client.close()

    asyncio.run(scene())
