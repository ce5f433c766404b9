"""Idle connections are closed, busy ones are not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from service.api import idle_connections
from service.api.idle_connections import (
    CHECK_INTERVAL_SECONDS,
    MAX_IDLE_SECONDS,
    ConnectionLimiter,
)
from service.api.slow_client_timeout import MIN_BYTES_PER_SECOND
from tests.service.api.virtual_time import run_in_virtual_time


@dataclass
class Transport:
    """The part of an asyncio.Transport that the limiter uses."""

    unsent_bytes: int = 0
    aborted: bool = False

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@dataclass(eq=False)
class Connection:
    """The part of uvicorn's HttpToolsProtocol that the limiter uses. cycle: its last request."""

    loop: asyncio.AbstractEventLoop
    connections: set
    cycle: SimpleNamespace | None = None
    transport: Transport = field(default_factory=Transport)

    def start_request(self) -> None:
        self.cycle = SimpleNamespace(response_complete=False)

    def finish_request(self) -> None:
        self.cycle = SimpleNamespace(response_complete=True)


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter(Connection)


def connect(limiter: ConnectionLimiter) -> Connection:
    """Add a new connection; call it in an event loop."""
    connections = limiter.connections
    connection = Connection(asyncio.get_running_loop(), connections)
    connections.add(connection)
    limiter.add(connection)
    return connection


async def every_check(action: Callable[[], None], seconds: float = 3 * MAX_IDLE_SECONDS) -> None:
    """Call `action` before each check of the limiter, for a time."""
    for _ in range(int(seconds / CHECK_INTERVAL_SECONDS)):
        action()
        await asyncio.sleep(CHECK_INTERVAL_SECONDS)


def test_a_connection_without_a_request_is_closed(limiter) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        await asyncio.sleep(MAX_IDLE_SECONDS - CHECK_INTERVAL_SECONDS)
        assert not connection.transport.aborted
        await asyncio.sleep(3 * CHECK_INTERVAL_SECONDS)
        assert connection.transport.aborted

    run_in_virtual_time(scene())


def test_a_connection_with_a_running_request_is_not_closed(limiter) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        connection.start_request()
        await asyncio.sleep(3 * MAX_IDLE_SECONDS)
        assert not connection.transport.aborted

    run_in_virtual_time(scene())


def test_a_connection_with_short_requests_is_not_closed(limiter) -> None:
    """Every check finds it without a running request."""

    async def scene() -> None:
        connection = connect(limiter)
        await every_check(connection.finish_request)
        assert not connection.transport.aborted

    run_in_virtual_time(scene())


@pytest.mark.parametrize(("share_of_rate", "aborted"), [(1.0, False), (0.5, True)])
def test_a_connection_may_take_a_complete_response_at_the_minimum_rate(limiter, share_of_rate, aborted) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        connection.transport.unsent_bytes = 2**30

        def take() -> None:
            connection.transport.unsent_bytes -= int(share_of_rate * MIN_BYTES_PER_SECOND * CHECK_INTERVAL_SECONDS)

        await every_check(take)
        assert connection.transport.aborted is aborted

    run_in_virtual_time(scene())


def test_a_connection_of_another_protocol_is_not_closed(limiter) -> None:
    """uvicorn keeps WebSockets in the same set."""

    async def scene() -> None:
        connect(limiter)
        limiter.connections.add(object())
        await asyncio.sleep(3 * MAX_IDLE_SECONDS)

    run_in_virtual_time(scene())


def test_above_the_limit_the_longest_idle_connection_is_closed(limiter, monkeypatch) -> None:
    monkeypatch.setattr(idle_connections, "MAX_CONNECTIONS", 3)

    async def scene() -> list[bool]:
        connections = [connect(limiter) for _ in range(3)]
        connections[0].start_request()
        connections.append(connect(limiter))
        return [connection.transport.aborted for connection in connections]

    assert run_in_virtual_time(scene()) == [False, True, False, False]
