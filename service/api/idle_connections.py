"""Limit connections that send no request.

uvicorn keeps such connections open, and has no limit that spares busy ones: a few thousand would leave a worker without
file descriptors. Here a connection must send a complete request within MAX_IDLE_SECONDS and take its response at
MIN_BYTES_PER_SECOND. Above MAX_CONNECTIONS the connection that has been idle longest is closed for each new one, so
idle clients never block others.
"""

import asyncio
from typing import Any, NamedTuple

from service.api.slow_client_timeout import MIN_BYTES_PER_SECOND

MAX_CONNECTIONS = 1024  # of one worker
MAX_IDLE_SECONDS = 10.0
CHECK_INTERVAL_SECONDS = 2.0


class IdleConnection(NamedTuple):
    """The time since which a connection is idle. Both other fields show whether it was busy meanwhile.

    since: seconds of the event loop's clock.
    unsent_bytes: bytes of responses that the client has not taken.
    last_cycle: uvicorn's object of the connection's last request.
    """

    since: float
    unsent_bytes: int
    last_cycle: Any


class ConnectionLimiter:
    """Closes connections of one worker on which no request runs, the longest idle first.

    protocol_class: uvicorn's class of HTTP connections; connections of other classes (WebSockets) are left alone.
    """

    def __init__(self, protocol_class: Any):
        self.protocol_class = protocol_class
        self.connections: set[Any] = set()  # uvicorn's own set of open connections
        self.idle: dict[Any, IdleConnection] = {}  # the longest idle first
        self.checks: asyncio.Task[None] | None = None

    def add(self, connection: Any) -> None:
        """Register a new connection; above MAX_CONNECTIONS, close the one that has been idle longest."""
        self.idle.setdefault(connection, IdleConnection(connection.loop.time(), 0, None))
        if not self.checks:
            self.connections = connection.connections
            self.checks = connection.loop.create_task(self._check_forever())
        if len(self.connections) > MAX_CONNECTIONS:
            self.close_longest_idle()

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            self.close_idle(asyncio.get_running_loop().time())

    def close_idle(self, now: float) -> None:
        """Update the list of idle connections, and close those that have been idle for MAX_IDLE_SECONDS."""
        states: dict[Any, IdleConnection] = {}
        for connection in self.connections:
            if not isinstance(connection, self.protocol_class) or _is_busy(connection):
                continue
            unsent_bytes = connection.transport.get_write_buffer_size()
            before = self.idle.get(connection, IdleConnection(now, unsent_bytes, connection.cycle))
            takes_response = before.unsent_bytes - unsent_bytes >= MIN_BYTES_PER_SECOND * CHECK_INTERVAL_SECONDS
            had_request = connection.cycle is not before.last_cycle
            since = now if takes_response or had_request else before.since
            states[connection] = IdleConnection(since, unsent_bytes, connection.cycle)
        self.idle = dict(sorted(states.items(), key=lambda item: item[1].since))
        for connection, state in states.items():
            if now - state.since >= MAX_IDLE_SECONDS:
                connection.transport.abort()

    def close_longest_idle(self) -> None:
        """Close the connection that has been idle longest, if one is idle."""
        for connection in self.idle:
            if not _is_busy(connection):
                del self.idle[connection]
                connection.transport.abort()
                return


def _is_busy(connection: Any) -> bool:
    """Return whether a request runs on a uvicorn connection."""
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete and not connection.transport.is_closing()
