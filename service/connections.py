"""Connections on which nothing is asked: uvicorn would keep them for ever, and thousands would leave it no sockets.

A connection has to bring a whole request within HEAD_SECONDS, and take its answer at a least pace. Of more than MOST,
the one that has idled longest gives way to the newest, so idlers never keep anybody out.
"""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service.guard import LEAST_BYTES_PER_SECOND

log = logging.getLogger("bentoml.nervemask")

MOST = 1024  # of one worker
HEAD_SECONDS = 10.0
LOOK_SECONDS = 2.0
WORKERS_SECONDS = 0.5


class Idle:
    """The connections of one worker on which no request is under way, the longest idle first."""

    def __init__(self) -> None:
        self.since: dict[Any, tuple[float, int]] = {}  # by connection: when, and bytes that wait to be taken

    def look(self, connections: set[Any], now: float) -> None:
        """Take stock, and end what has idled too long."""
        idle: list[Any] = [one for one in connections if isinstance(one, AutoHTTPProtocol) and not _busy(one)]
        seen = {}
        for one in idle:
            unsent = one.transport.get_write_buffer_size()
            then, before = self.since.get(one, (now, unsent))
            taken = before - unsent >= LEAST_BYTES_PER_SECOND * LOOK_SECONDS
            seen[one] = (now if taken else then, unsent)
        self.since = dict(sorted(seen.items(), key=lambda item: item[1][0]))
        for one, (then, _) in seen.items():
            if now - then >= HEAD_SECONDS:
                one.transport.abort()

    def give_way(self) -> None:
        """End the one that has idled longest, if there is one."""
        for one in self.since:
            if not _busy(one):
                del self.since[one]
                one.transport.abort()
                return


def _busy(connection: Any) -> bool:
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete and not connection.transport.is_closing()


def bound_connections() -> None:
    """For this process's server: BentoML makes it, and gives no way to choose its protocol."""
    idle = Idle()
    made = AutoHTTPProtocol.connection_made
    looking: list[asyncio.Task[None]] = []

    async def look(connections: set[Any]) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            idle.look(connections, asyncio.get_running_loop().time())

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        idle.since.setdefault(self, (self.loop.time(), 0))
        if not looking:
            looking.append(self.loop.create_task(look(self.connections)))
        if len(self.connections) > MOST:
            idle.give_way()

    AutoHTTPProtocol.connection_made = connection_made  # type: ignore[assignment,method-assign]


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
