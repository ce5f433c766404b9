"""Idle connections are closed, busy ones are not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from service.api.idle_connection_timeout import (
    CHECK_INTERVAL_SECONDS,
    MAX_IDLE_SECONDS,
    ConnectionLimiter,
)
from service.api.shared_socket_server import MIN_IDLE_SECONDS
from service.api.slow_transfer_timeout import MAX_CLIENT_WAIT_SECONDS, MIN_BYTES_PER_SECOND
from tests.service.api.virtual_time import run_in_virtual_time


@dataclass
class Transport:
    """The part of a MeasuredTransport that the limiter uses."""

    unsent_bytes: int = 0
    taken_bytes: int = 0
    aborted: bool = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@dataclass(eq=False)
class Connection:
    """A connection: the part of HttpProtocol that the limiter uses."""

    loop: asyncio.AbstractEventLoop
    connections: set
    is_serving: bool = False
    last_request: object = None
    is_kept_alive: bool = False
    transport: Transport = field(default_factory=Transport)

    def start_request(self) -> None:
        self.is_serving, self.last_request = True, object()

    def finish_request(self) -> None:
        self.is_serving, self.last_request = False, object()


@pytest.fixture
def limiter() -> ConnectionLimiter:
    return ConnectionLimiter()


def connect(limiter: ConnectionLimiter) -> Connection:
    """Add a new connection; call it in an event loop."""
    connections = limiter.connections
    connection = Connection(asyncio.get_running_loop(), connections)
    connections.add(connection)
    limiter.add(connection)
    return connection


def make_room(limiter: ConnectionLimiter) -> bool:
    """Close the connection that has been idle longest, if one may be closed; call it in an event loop."""
    longest_idle = limiter.longest_idle(asyncio.get_running_loop().time() - MIN_IDLE_SECONDS)
    if longest_idle:
        limiter.close(longest_idle)
    return longest_idle is not None


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


def test_a_connection_that_is_kept_alive_is_left_to_uvicorn(limiter) -> None:
    """Otherwise its client could lose the next request. When that request begins, the time begins again."""

    async def scene() -> None:
        connection = connect(limiter)
        connection.is_kept_alive = True
        await asyncio.sleep(3 * MAX_IDLE_SECONDS)
        connection.is_kept_alive = False
        await asyncio.sleep(MAX_IDLE_SECONDS - CHECK_INTERVAL_SECONDS)
        assert not connection.transport.aborted
        await asyncio.sleep(3 * CHECK_INTERVAL_SECONDS)
        assert connection.transport.aborted

    run_in_virtual_time(scene())


def test_a_connection_that_is_kept_alive_must_take_its_response(limiter) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        connection.is_kept_alive, connection.transport.unsent_bytes = True, 100
        await asyncio.sleep(MAX_IDLE_SECONDS + 2 * CHECK_INTERVAL_SECONDS)
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


@pytest.mark.parametrize("serving", [False, True])
@pytest.mark.parametrize(("share_of_rate", "aborted"), [(1.0, False), (0.5, True)])
def test_a_connection_may_take_a_response_at_the_minimum_rate(limiter, share_of_rate, aborted, serving) -> None:
    """Also while the application still sends, so that the number of unsent bytes stays the same."""

    async def scene() -> None:
        connection = connect(limiter)
        connection.is_serving = serving
        connection.transport.unsent_bytes = 2**16

        def take() -> None:
            connection.transport.taken_bytes += int(share_of_rate * MIN_BYTES_PER_SECOND * CHECK_INTERVAL_SECONDS)

        await every_check(take, 2 * MAX_CLIENT_WAIT_SECONDS)
        assert connection.transport.aborted is aborted

    run_in_virtual_time(scene())


def test_further_requests_do_not_make_up_for_responses_that_are_not_taken(limiter) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        connection.transport.unsent_bytes = 100
        await every_check(connection.finish_request)
        assert connection.transport.aborted

    run_in_virtual_time(scene())


def test_a_running_request_whose_response_is_not_taken_is_idle(limiter) -> None:
    """Above the limit it is closed before any that waits for the service."""

    async def scene() -> list[bool]:
        connections = [connect(limiter) for _ in range(2)]
        for connection in connections:
            connection.start_request()
        connections[1].transport.unsent_bytes = 2**16
        await asyncio.sleep(2 * CHECK_INTERVAL_SECONDS)
        assert make_room(limiter)
        return [connection.transport.aborted for connection in connections]

    assert run_in_virtual_time(scene()) == [False, True]


def test_a_connection_that_has_become_a_stream_is_not_closed_in_its_place(limiter) -> None:
    """uvicorn then gives its transport to another object, and takes this one out of its set."""

    async def scene() -> list[bool]:
        connections = [connect(limiter)]
        limiter.connections.discard(connections[0])
        connections.append(connect(limiter))
        await asyncio.sleep(MIN_IDLE_SECONDS)
        assert make_room(limiter)
        return [connection.transport.aborted for connection in connections]

    assert run_in_virtual_time(scene()) == [False, True]


def test_above_the_limit_the_longest_idle_connection_is_closed(limiter) -> None:
    async def scene() -> list[bool]:
        connections = [connect(limiter) for _ in range(3)]
        connections[0].start_request()
        await asyncio.sleep(MIN_IDLE_SECONDS)
        assert make_room(limiter)
        return [connection.transport.aborted for connection in connections]

    assert run_in_virtual_time(scene()) == [False, True, False]


def test_above_the_limit_no_busy_or_new_connection_is_closed(limiter) -> None:
    """The request of a new one may be on its way: its client would lose it."""

    async def scene() -> None:
        connections = [connect(limiter)]
        connections[0].start_request()
        await asyncio.sleep(2 * MIN_IDLE_SECONDS)
        connections.append(connect(limiter))
        assert not make_room(limiter)
        await asyncio.sleep(MIN_IDLE_SECONDS / 2)
        assert not make_room(limiter)
        assert not any(connection.transport.aborted for connection in connections)

    run_in_virtual_time(scene())


def test_a_connection_is_idle_from_the_end_of_its_response(limiter) -> None:
    """Not from the last check: its client may be sending the next request."""

    async def scene() -> list[bool]:
        connections = [connect(limiter) for _ in range(2)]
        await asyncio.sleep(1.5 * MIN_IDLE_SECONDS)
        connections[0].finish_request()
        limiter.record_response(connections[0])
        assert make_room(limiter)
        assert not make_room(limiter)
        await asyncio.sleep(1.5 * MIN_IDLE_SECONDS)
        aborted = [connection.transport.aborted for connection in connections]
        assert make_room(limiter)
        return aborted

    assert run_in_virtual_time(scene()) == [False, True]


def test_a_connection_that_was_busy_at_the_last_check_can_be_closed(limiter) -> None:
    async def scene() -> None:
        connection = connect(limiter)
        connection.start_request()
        limiter.close_idle(asyncio.get_running_loop().time())
        assert not limiter.idle
        connection.finish_request()
        limiter.record_response(connection)
        await asyncio.sleep(MIN_IDLE_SECONDS)
        assert make_room(limiter)

    run_in_virtual_time(scene())


def test_further_responses_do_not_make_up_for_those_that_are_not_taken(limiter) -> None:
    """Otherwise a client that takes a byte now and then would hold its connection for ever."""

    async def scene() -> None:
        connection = connect(limiter)
        connection.transport.unsent_bytes = 100

        def respond() -> None:
            connection.finish_request()
            limiter.record_response(connection)

        await every_check(respond)
        assert connection.transport.aborted

    run_in_virtual_time(scene())
