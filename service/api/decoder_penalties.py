"""Slow down clients whose files end decoder processes: each costs seconds of a core."""

import time
from collections import OrderedDict
from collections.abc import Callable

from service.errors import ErrorCode, FrameError
from service.request import RequestState

MAX_FREE_ENDS = 3  # frames of a client that may end their decoder processes before it has to wait
MAX_PENALTY_SECONDS = 60.0
MEMORY_SECONDS = 600.0  # after the last one the count starts again
MAX_CLIENTS = 4096  # the client that was first to end its last decoder process is forgotten


class DecoderPenalties:
    """Counts the frames of each client that ended their decoder processes. It waits twice as long after each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        # By client: their number, and the time of the last.
        self.ends: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def record(self, state: RequestState) -> None:
        """Count the frames of a request that ended their decoder processes."""
        if not state.ended_decoders:
            return
        client, now = state.client_id, self.clock()
        count, last = self.ends.pop(client, (0, now))
        self.ends[client] = (0 if now - last > MEMORY_SECONDS else count) + state.ended_decoders, now
        state.ended_decoders = 0
        if len(self.ends) > MAX_CLIENTS:
            self.ends.popitem(last=False)

    def seconds_left(self, client: str) -> float:
        """Return how long a client still has to wait; 0 if it may send files."""
        count, last = self.ends.get(client, (0, 0.0))
        doublings = min(count - MAX_FREE_ENDS - 1, 16)
        penalty = min(2.0**doublings, MAX_PENALTY_SECONDS) if doublings >= 0 else 0.0
        return max(0.0, last + penalty - self.clock())

    def check(self, client: str) -> None:
        """Raise FrameError (429) while a client has to wait."""
        if seconds := self.seconds_left(client):
            message = "Your files ended several decoder processes: wait for the seconds in Retry-After."
            raise FrameError(ErrorCode.TOO_MANY, message, retry_after_seconds=seconds)


PENALTIES = DecoderPenalties()
