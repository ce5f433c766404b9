"""Connections on which nothing is asked: uvicorn would keep them for ever, and thousands would leave it no sockets.

Workers share one listening socket, and the first to wake would take all that wait: so each takes one at a time, and
pauses the longer the more it has. A connection has to bring a whole request within HEAD_SECONDS, and take its answer at
a least pace. Of more than MOST, the one that has idled longest gives way to the newest, so idlers never keep anybody
out; nor do those that begin to speak TLS and do not go on: of more than BEGUN, the first gives way.
"""

import asyncio
import functools
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import uvloop
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service.guard import LEAST_BYTES_PER_SECOND

log = logging.getLogger("bentoml.nervemask")

MOST, BEGUN = 1024, 256  # of one worker
HEAD_SECONDS = 10.0
LOOK_SECONDS = 2.0
WORKERS_SECONDS = 0.5
PAUSE_SECONDS = 0.001  # after a connection was taken, for each that is held
LONGEST_PAUSE_SECONDS = 0.005
UNREAD, LEAST_UNREAD = 4 * 2**20, 2**16  # bytes of a body that a connection may bring before they are read
ALL_UNREAD = 64 * 2**20  # of all connections of one worker
FULL_SECONDS = 0.5  # until a connection is tried again where there was no room for one


class Since(NamedTuple):
    """When a connection began to idle, behind which request of uvicorn's, and the bytes that then wait to be taken."""

    time: float
    unsent: int
    request: Any


class Idle:
    """The connections of one worker on which no request is under way, the longest idle first."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()  # uvicorn's own: all there are
        self.since: dict[Any, Since] = {}  # by connection

    def look(self, now: float) -> None:
        """Take stock, and end what has idled too long."""
        idle: list[Any] = [one for one in self.connections if isinstance(one, AutoHTTPProtocol) and not _busy(one)]
        seen = {}
        for one in idle:
            unsent = one.transport.get_write_buffer_size()
            before = self.since.get(one, Since(now, unsent, one.cycle))
            taken = before.unsent - unsent >= LEAST_BYTES_PER_SECOND * LOOK_SECONDS
            asked = one.cycle is not before.request
            seen[one] = Since(now if taken or asked else before.time, unsent, one.cycle)
        self.since = dict(sorted(seen.items(), key=lambda item: item[1].time))
        for one, since in seen.items():
            if now - since.time >= HEAD_SECONDS:
                one.transport.abort()

    def give_way(self) -> None:
        """End the one that has idled longest, if there is one."""
        for one in self.since:
            if not _busy(one):
                del self.since[one]
                one.transport.abort()
                return


class Unread:
    """How much of a body uvicorn takes before somebody reads it, which it asks with `count > limit`: a sip where many
    connections share what there is, and else enough for a cine to come in at one go."""

    def __init__(self, idle: Idle):
        self.idle = idle

    def __lt__(self, count: int) -> bool:
        return count > min(UNREAD, max(LEAST_UNREAD, ALL_UNREAD // max(1, len(self.idle.connections))))


class OneByOne:
    """In the place of an asyncio.Server: takes connections from a socket that other workers take from too.

    made: makes a connection of what was accepted. idle: those that there are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, made: Callable, idle: Idle):
        self.loop, self.sock, self.made, self.idle = loop, sock, made, idle
        self.making: dict[asyncio.Task[Any], socket.socket] = {}  # the first begun first
        self.sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if self.sock.fileno() >= 0:
            self.loop.add_reader(self.sock, self._take)

    def _pause(self, seconds: float) -> None:
        self.loop.remove_reader(self.sock)
        self.loop.call_later(seconds, self._listen)

    def _take(self) -> None:
        try:
            taken, _ = self.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was quicker, or the client has gone
            return
        except OSError as fault:
            log.error("no room for a connection: %s", fault)
            self.idle.give_way()
            self._pause(FULL_SECONDS)
            return
        held = len(self.idle.connections) + len(self.making)
        self._pause(min(PAUSE_SECONDS * (1 + held), LONGEST_PAUSE_SECONDS))
        if len(self.making) >= BEGUN:
            next(iter(self.making)).cancel()
        task = self.loop.create_task(self.made(taken))
        self.making[task] = taken
        task.add_done_callback(self._is_made)

    def _is_made(self, task: asyncio.Task[Any]) -> None:
        taken = self.making.pop(task)
        if task.cancelled():
            taken.close()
        elif fault := task.exception():
            log.info("a connection did not come about: %s", fault)  # of TLS, mostly

    def close(self) -> None:
        self.loop.remove_reader(self.sock)
        self.sock.close()

    async def wait_closed(self) -> None:
        """Its connections end by themselves: uvicorn sees to them."""


def _busy(connection: Any) -> bool:
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete and not connection.transport.is_closing()


def bound_connections() -> None:
    """For this process's server: BentoML makes it, and gives no way to choose its protocol."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand connections, and their uploads
    idle = Idle()
    made, create = AutoHTTPProtocol.connection_made, uvloop.Loop.create_server
    looking: list[asyncio.Task[None]] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            idle.look(asyncio.get_running_loop().time())

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        idle.since.setdefault(self, Since(self.loop.time(), 0, None))
        if not looking:
            idle.connections = self.connections
            looking.append(self.loop.create_task(look()))
        if len(self.connections) > MOST:
            idle.give_way()

    async def create_server(loop: Any, factory: Any, *at: Any, sock: socket.socket | None = None, **how: Any) -> Any:
        if sock is None:  # of one process alone
            return await create(loop, factory, *at, **how)
        tls = {"ssl": how["ssl"], "ssl_handshake_timeout": HEAD_SECONDS} if how.get("ssl") else {}
        made = functools.partial(loop.connect_accepted_socket, factory, **tls)
        return OneByOne(loop, sock, made, idle)

    httptools_impl.HIGH_WATER_LIMIT = Unread(idle)  # type: ignore[assignment]
    AutoHTTPProtocol.connection_made = connection_made  # type: ignore[assignment,method-assign]
    uvloop.Loop.create_server = create_server  # type: ignore[assignment,method-assign]


def look_after_workers() -> None:
    """In the supervisor, before it starts: BentoML would look for killed workers every ten seconds only."""
    from bentoml._internal.utils import circus

    class Arbiter(circus.Arbiter):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "check_delay": WORKERS_SECONDS})

        def manage_watchers(self) -> Any:
            """Not while workers are being started: circus would log that as a fault."""
            return super().manage_watchers() if self._exclusive_running_command is None else None

    circus.Arbiter = Arbiter  # type: ignore[misc]
