"""Limit connections that send no request.

uvicorn keeps such connections open, and has no limit that spares busy ones: a few thousand would leave a worker without
file descriptors. Here a connection must send a complete request within MAX_IDLE_SECONDS and take its response at
MIN_BYTES_PER_SECOND. Above MAX_CONNECTIONS the connection that has been idle longest is closed for each new one, so
idle clients never block others.
"""

import asyncio
import functools
import logging
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from service.api.slow_client_timeout import MIN_BYTES_PER_SECOND

log = logging.getLogger("bentoml.nervemask")

# Of one worker:
MAX_CONNECTIONS = 1024
MAX_TLS_HANDSHAKES = 256
MAX_UNREAD_BYTES = 64 * 2**20  # of request bodies, all connections together

MAX_IDLE_SECONDS = 10.0
CHECK_INTERVAL_SECONDS = 2.0
ACCEPT_PAUSE_SECONDS = 0.001  # after a connection, for each connection that this worker holds
MAX_ACCEPT_PAUSE_SECONDS = 0.005
ACCEPT_RETRY_SECONDS = 0.5  # after an accept that failed
MIN_HIGH_WATER_BYTES, MAX_HIGH_WATER_BYTES = 2**16, 4 * 2**20  # of one connection


class IdleConnection(NamedTuple):
    """Since when a connection is idle. Both other fields show whether it was busy meanwhile.

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


class HighWaterLimit:
    """How many bytes of a body uvicorn buffers for one connection before the application reads them.

    uvicorn tests `byte_count > limit`. A few connections get a large buffer each, for fast uploads; many connections
    share MAX_UNREAD_BYTES (backpressure).
    """

    def __init__(self, limiter: ConnectionLimiter):
        self.limiter = limiter

    def __lt__(self, byte_count: int) -> bool:
        share = MAX_UNREAD_BYTES // max(1, len(self.limiter.connections))
        return byte_count > min(MAX_HIGH_WATER_BYTES, max(MIN_HIGH_WATER_BYTES, share))


class SharedSocketServer:
    """A server on a socket that several workers accept from; it replaces asyncio.Server for uvicorn.

    It accepts one connection at a time, and then pauses, the longer the more connections its worker holds. So the
    workers share the connections about evenly. Of more than MAX_TLS_HANDSHAKES unfinished TLS handshakes it cancels
    the oldest.

    connect: makes uvicorn's connection of an accepted socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        connect: Callable[[socket.socket], Coroutine[Any, Any, Any]],
        limiter: ConnectionLimiter,
    ):
        self.loop, self.listener, self.connect, self.limiter = loop, listener, connect, limiter
        self.handshakes: dict[asyncio.Task[Any], socket.socket] = {}  # the oldest first
        self.listener.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if self.listener.fileno() >= 0:
            self.loop.add_reader(self.listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self.loop.remove_reader(self.listener)
        self.loop.call_later(seconds, self._listen)

    def _accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster, or the client disconnected
            return
        except OSError as error:  # too many open files, for example
            log.error("cannot accept a connection: %s", error)
            self.limiter.close_longest_idle()
            self._pause(ACCEPT_RETRY_SECONDS)
            return
        held = len(self.limiter.connections) + len(self.handshakes)
        self._pause(min(ACCEPT_PAUSE_SECONDS * (1 + held), MAX_ACCEPT_PAUSE_SECONDS))
        if len(self.handshakes) >= MAX_TLS_HANDSHAKES:
            next(iter(self.handshakes)).cancel()
        task = self.loop.create_task(self.connect(client))
        self.handshakes[task] = client
        task.add_done_callback(self._finish_handshake)

    def _finish_handshake(self, task: asyncio.Task[Any]) -> None:
        client = self.handshakes.pop(task)
        if task.cancelled():
            client.close()
        elif error := task.exception():
            log.info("a connection failed before its first request: %s", error)  # mostly in the TLS handshake

    def close(self) -> None:
        self.loop.remove_reader(self.listener)
        self.listener.close()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn waits for the connections itself."""


def serve_shared_socket(
    loop: Any, protocol_factory: Callable[[], Any], listener: socket.socket, ssl: Any, limiter: ConnectionLimiter
) -> SharedSocketServer:
    """Start a server on a socket that several workers share. ssl: an SSLContext, or None."""
    tls = {"ssl": ssl, "ssl_handshake_timeout": MAX_IDLE_SECONDS} if ssl else {}
    connect = functools.partial(loop.connect_accepted_socket, protocol_factory, **tls)
    return SharedSocketServer(loop, listener, connect, limiter)


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system does: for its connections and their uploads."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _is_busy(connection: Any) -> bool:
    """Whether a request runs on a uvicorn connection."""
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete and not connection.transport.is_closing()
