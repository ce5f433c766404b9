"""Limit connections on which the service waits for the client.

uvicorn keeps such connections open, and has no limit that spares busy ones: a few thousand would leave a worker without
file descriptors. Here a client must send a complete request within MAX_IDLE_SECONDS of its beginning, and take what it
is sent at MIN_BYTES_PER_SECOND. uvicorn itself closes a connection that waits too long for a further request. Above
MAX_CONNECTIONS the connection that has been idle longest is closed for each new one (service.api.shared_socket_server).
"""

import asyncio
import math
import random
from typing import Any, NamedTuple, Self

from service.api.slow_transfer_timeout import MAX_CLIENT_WAIT_SECONDS, MIN_BYTES_PER_SECOND
from service.resources.malloc_options import trim_memory

MAX_CONNECTIONS = 1024  # of one worker
MAX_IDLE_SECONDS = 10.0
CHECK_INTERVAL_SECONDS = 2.0
LINGER_SECONDS = 2.0
TRIM_CONNECTIONS = 100  # after as many, the worker gives memory back to the system


class MeasuredTransport:
    """An asyncio.Transport that counts the bytes that its client has taken, and can close late.

    closes_late: `close` waits for LINGER_SECONDS to twice as long. If a connection closed with unread input, TCP would
        reset it, and the client would lose the last response. It also slows down clients that connect again at once.
    """

    def __init__(self, transport: Any):
        self.transport = transport
        self.written_bytes = 0
        self.closes_late = False
        self.closing: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them. Without a connection they are dropped, as asyncio does; uvloop would raise."""
        if self.transport.is_closing():
            return
        self.written_bytes += len(data)
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection when what is written is sent."""
        if not self.closes_late:
            self.transport.close()
        elif not self.closing:  # at random, so that refused clients do not all come back at the same moment
            seconds = LINGER_SECONDS * (1 + random.random())
            self.closing = asyncio.get_running_loop().call_later(seconds, self.transport.close)

    @property
    def unsent_bytes(self) -> int:
        """Return the number of bytes that the client has not taken."""
        return int(self.transport.get_write_buffer_size())

    @property
    def taken_bytes(self) -> int:
        """Return the number of bytes that the client, or a buffer of the system, has taken."""
        return self.written_bytes - self.unsent_bytes


class IdleConnection(NamedTuple):
    """The time since which a connection is idle. The other fields show whether it was busy meanwhile.

    since: seconds of the event loop's clock.
    taken_bytes: bytes that the client has taken.
    last_request: uvicorn's object of the connection's last request.
    is_kept_alive: see ConnectionLimiter.
    """

    since: float
    taken_bytes: int
    last_request: Any
    is_kept_alive: bool

    @classmethod
    def of(cls, connection: Any, now: float) -> Self:
        """Return the state of a connection that is idle from now on."""
        return cls(now, connection.transport.taken_bytes, connection.last_request, connection.is_kept_alive)


class ConnectionLimiter:
    """Closes connections of one worker that wait for their client, the longest idle first.

    A connection (HttpProtocol, WebSocketProtocol) has these attributes: `loop`; `connections`, uvicorn's set of open
    connections; `transport`, a MeasuredTransport; `is_serving`, whether a request or a stream runs on it;
    `last_request`, another object after each request; and `is_kept_alive`, whether no request has begun since a
    response.
    """

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.idle: dict[Any, IdleConnection] = {}  # the longest idle first
        self.checks: asyncio.Task[None] | None = None
        self.most_connections = 0  # since memory was given back

    def add(self, connection: Any) -> None:
        """Register a new connection."""
        self.idle.setdefault(connection, IdleConnection.of(connection, connection.loop.time()))
        if not self.checks:
            self.connections = connection.connections
            self.checks = connection.loop.create_task(self._check_forever())

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            self.close_idle(asyncio.get_running_loop().time())
            self._trim_memory()

    def close_idle(self, now: float) -> None:
        """Update the list of idle connections, and close those that have been idle too long."""
        states = {
            connection: self._idle_state(connection, now) for connection in self.connections if is_idle(connection)
        }
        self.idle = dict(sorted(states.items(), key=lambda item: item[1].since))
        for connection, state in self.idle.items():
            if now - state.since >= max_idle_seconds(connection):
                connection.transport.abort()

    def _idle_state(self, connection: Any, now: float) -> IdleConnection:
        state = IdleConnection.of(connection, now)
        before = self.idle.get(connection, state)
        if connection.transport.unsent_bytes:  # a further request does not make up for a response that is not taken
            taken_bytes = state.taken_bytes - before.taken_bytes
            was_busy = taken_bytes >= MIN_BYTES_PER_SECOND * CHECK_INTERVAL_SECONDS
        else:
            has_begun = before.is_kept_alive and not state.is_kept_alive
            was_busy = has_begun or state.last_request is not before.last_request
        return state if was_busy else state._replace(since=before.since)

    def _trim_memory(self) -> None:
        """Give free memory back to the system when most of many connections are gone."""
        self.most_connections = max(self.most_connections, len(self.connections))
        if self.most_connections >= TRIM_CONNECTIONS and len(self.connections) < self.most_connections / 2:
            self.most_connections = len(self.connections)
            trim_memory()

    def record_response(self, connection: Any) -> None:
        """Note that a connection that was busy at the last check has finished a response just now.

        The state of any other connection stays: a further response does not make up for one that is not taken.
        """
        self.idle.setdefault(connection, IdleConnection.of(connection, connection.loop.time()))

    def longest_idle(self, since: float = math.inf) -> Any | None:
        """Return the connection that has been idle longest; None if none has been idle since then.

        A connection with a request since the last check is none: its client may be sending the next one.

        since: seconds of the event loop's clock.
        """
        for connection, state in self.idle.items():
            if state.since > since:
                return None
            was_busy = connection.last_request is not state.last_request
            if connection in self.connections and not was_busy and is_idle(connection):
                return connection
        return None

    def close(self, connection: Any) -> None:
        """Close an idle connection."""
        self.idle.pop(connection, None)
        connection.transport.abort()


def is_idle(connection: Any) -> bool:
    """Return whether a connection waits for its client: for a request, or to take a response."""
    transport = connection.transport
    return not connection.is_serving or transport.unsent_bytes > 0 or bool(transport.is_closing())


def max_idle_seconds(connection: Any) -> float:
    """Return how long a connection may be idle; infinity where uvicorn's own timeout holds."""
    if connection.is_serving:
        return MAX_CLIENT_WAIT_SECONDS
    transport = connection.transport
    is_waiting = connection.is_kept_alive and not transport.unsent_bytes and not transport.is_closing()
    return math.inf if is_waiting else MAX_IDLE_SECONDS


CONNECTION_LIMITER = ConnectionLimiter()
