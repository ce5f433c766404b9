"""Accept the connections of a socket that several workers share, about as many in each worker."""

import asyncio
import functools
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from service.api.idle_connection_timeout import MAX_CONNECTIONS, MAX_IDLE_SECONDS, ConnectionLimiter

log = logging.getLogger("bentoml.nervemask")

MAX_TLS_HANDSHAKES = 256  # of one worker
ACCEPT_PAUSE_SECONDS = 0.001  # after a connection, for each connection that this worker holds
MAX_ACCEPT_PAUSE_SECONDS = 0.005
MAX_UNSENT_BYTES = 64 * 1024  # of one connection, in the system's buffer
ACCEPTED_SHARE = 8  # one of so many waiting connections is accepted at a time
MAX_ACCEPTED = 32  # at a time
ACCEPT_RETRY_SECONDS = 0.5  # after an accept that failed
MANY_WAITING = MAX_ACCEPTED * ACCEPTED_SHARE
MIN_IDLE_SECONDS = 1.0  # a younger connection is not closed for another one: its request may be on its way
MIN_IDLE_SECONDS_OF_MANY = 0.1  # while MANY_WAITING
FULL_PAUSE_SECONDS = 0.02  # while the worker holds as many connections as it may, and all are busy


def waiting_connections(listener: socket.socket) -> int:
    """Return the number of connections that wait to be accepted from a TCP socket."""
    # The kernel's struct tcp_info begins with 8 bytes and 4 numbers of 4 bytes; then follows tcpi_unacked, which for a
    # listening socket is the length of this queue.
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("=24xI", info)[0])


class SharedSocketServer:
    """A server on a socket that several workers accept from; it replaces asyncio.Server for uvicorn.

    It accepts one connection at a time and then pauses. The more connections its worker holds, the longer is the pause,
    so the workers share the connections about evenly. When many connections wait, it accepts a share of them at a time:
    otherwise clients that connect again and again would make the others wait for seconds. When there are
    MAX_TLS_HANDSHAKES unfinished TLS handshakes, it cancels the oldest for each new connection. While there are
    MAX_CONNECTIONS, it closes the one that has been idle longest for each new one. While none is idle, new ones wait,
    and another worker may accept them.

    loop: the worker's event loop.
    listener: the shared socket; it must listen already.
    connect: makes uvicorn's connection of an accepted socket.
    limiter: knows the open connections of the worker.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        connect: Callable[[socket.socket], Coroutine[Any, Any, Any]],
        limiter: ConnectionLimiter,
    ):
        self.loop = loop
        self.listener = listener
        self.connect = connect
        self.limiter = limiter
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
        held = len(self.limiter.connections) + len(self.handshakes)
        pause = self._accept_some(held) or min(ACCEPT_PAUSE_SECONDS * (1 + held), MAX_ACCEPT_PAUSE_SECONDS)
        self._pause(pause)

    def _accept_some(self, held: int) -> float:
        """Accept waiting connections; return the pause that an error or a lack of room needs, 0 without one.

        held: number of open connections.
        """
        waiting = waiting_connections(self.listener)
        idle_since = self.loop.time() - (MIN_IDLE_SECONDS if waiting < MANY_WAITING else MIN_IDLE_SECONDS_OF_MANY)
        for held_now in range(held, held + max(1, min(MAX_ACCEPTED, waiting // ACCEPTED_SHARE))):
            is_full = held_now >= MAX_CONNECTIONS
            longest_idle = self.limiter.longest_idle(idle_since) if is_full else None
            if is_full and not longest_idle:
                return FULL_PAUSE_SECONDS
            try:
                client, _ = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # another worker was faster, or the client disconnected
                return 0.0
            except OSError as error:  # too many open files, for example
                log.error("cannot accept a connection: %s", error)
                if longest_idle := self.limiter.longest_idle():
                    self.limiter.close(longest_idle)
                return ACCEPT_RETRY_SECONDS
            self._connect(client)
            if longest_idle:
                self.limiter.close(longest_idle)
        return 0.0

    def _connect(self, client: socket.socket) -> None:
        # Without it the system buffers megabytes for a client that takes no response.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
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
        """Accept no more connections."""
        self.loop.remove_reader(self.listener)
        self.listener.close()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn waits for the connections itself."""


def serve_shared_socket(
    loop: Any, protocol_factory: Callable[[], Any], listener: socket.socket, ssl: Any, limiter: ConnectionLimiter
) -> SharedSocketServer:
    """Start a server on a socket that several workers share.

    loop: the worker's event loop, with uvloop's methods.
    protocol_factory: makes uvicorn's protocol of a connection.
    listener: the shared socket.
    ssl: an SSLContext, or None.
    limiter: knows the open connections of the worker.
    """
    tls = {"ssl": ssl, "ssl_handshake_timeout": MAX_IDLE_SECONDS} if ssl else {}
    connect = functools.partial(loop.connect_accepted_socket, protocol_factory, **tls)
    return SharedSocketServer(loop, listener, connect, limiter)
