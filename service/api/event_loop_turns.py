"""Share a worker's event loop between connections whose input is costly to read."""

import time
from collections.abc import Callable
from typing import Any

MAX_TURN_SECONDS = 0.005  # then the event loop serves everything else
MAX_DISCARDED_BYTES = 32 * 2**20  # of one connection
MAX_DISCARDED_PER_SECOND = 64 * 2**20  # of all connections of a worker together


class EventLoopTurns:
    """Connections with input that is not parsed yet; each is parsed a slice at a time, in turn.

    A body of one-byte chunks takes a hundred times longer to parse than other bodies of its size. Without turns, the
    bytes of a few such bodies would keep the event loop from all other requests for seconds.

    A connection has these attributes: `loop`; `parse_slice()`; and `has_input`, whether it wants another turn.
    """

    def __init__(self) -> None:
        self.connections: dict[Any, None] = {}  # the next first
        self.is_scheduled = False

    def add(self, connection: Any) -> None:
        """Give a connection a turn, soon."""
        self.connections[connection] = None
        if not self.is_scheduled:
            self.is_scheduled = True
            connection.loop.call_soon(self._run)

    def _run(self) -> None:
        self.is_scheduled = False
        end = time.perf_counter() + MAX_TURN_SECONDS
        while self.connections:
            connection = next(iter(self.connections))
            del self.connections[connection]
            connection.parse_slice()
            if connection.has_input:
                self.connections[connection] = None
            if time.perf_counter() >= end:
                break
        if self.connections:
            self.add(next(iter(self.connections)))


class DiscardBudget:
    """Bytes that may be read and discarded after responses: a client that still sends can then read its response."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.second = 0
        self.bytes_of_second = 0

    def spend(self, byte_count: int) -> bool:
        """Count bytes; return False when there were too many in this second."""
        second = int(self.clock())
        if second != self.second:
            self.second, self.bytes_of_second = second, 0
        self.bytes_of_second += byte_count
        return self.bytes_of_second <= MAX_DISCARDED_PER_SECOND


INPUT_TURNS = EventLoopTurns()
DISCARD_BUDGET = DiscardBudget()
