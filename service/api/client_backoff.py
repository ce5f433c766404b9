"""Exponential backoff by client: after a few free faults, a client waits twice as long after each further one."""

import time
from collections import OrderedDict
from collections.abc import Callable

MEMORY_SECONDS = 600.0  # after a client's last fault its count starts again
MAX_CLIENTS = 4096  # the client whose last fault is the oldest is forgotten
MAX_DOUBLINGS = 60  # a float does not hold 2**1024


class ClientBackoff:
    """Counts the faults of each client, and how long it has to wait after the last one.

    free_faults: after as many faults a client need not wait yet.
    first_seconds: the wait after the next fault; it doubles with each further one, up to max_seconds.
    """

    def __init__(
        self,
        free_faults: int,
        first_seconds: float,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.free_faults = free_faults
        self.first_seconds = first_seconds
        self.max_seconds = max_seconds
        self.clock = clock
        self.faults: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by client: their number, time of the last

    def record(self, client: str, faults: int = 1) -> float:
        """Count faults of a client; return the seconds that it has to wait from now, 0 after its free faults."""
        now = self.clock()
        count, last = self.faults.pop(client, (0, now))
        self.faults[client] = (0 if now - last > MEMORY_SECONDS else count) + faults, now
        if len(self.faults) > MAX_CLIENTS:
            self.faults.popitem(last=False)
        return self.seconds_left(client)

    def seconds_left(self, client: str) -> float:
        """Return how long a client still has to wait, in seconds."""
        count, last = self.faults.get(client, (0, 0.0))
        doublings = min(count - self.free_faults - 1, MAX_DOUBLINGS)
        wait = min(self.first_seconds * 2.0**doublings, self.max_seconds) if doublings >= 0 else 0.0
        return max(0.0, last + wait - self.clock())
