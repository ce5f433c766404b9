"""Slow down clients whose files end decoder processes: each costs seconds of a core."""

import time
from collections.abc import Callable

from service.api.client_backoff import ClientBackoff
from service.errors import ErrorCode, FrameError
from service.request_state import RequestState

MAX_FREE_ENDS = 3  # frames of a client that may end their decoder processes before it has to wait
FIRST_PENALTY_SECONDS = 1.0
MAX_PENALTY_SECONDS = 60.0


class DecoderPenalties:
    """Counts the frames of each client that ended their decoder processes. It waits twice as long after each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.backoff = ClientBackoff(MAX_FREE_ENDS, FIRST_PENALTY_SECONDS, MAX_PENALTY_SECONDS, clock)

    def record(self, state: RequestState) -> None:
        """Count the frames of a request that ended their decoder processes."""
        if state.ended_decoders:
            self.backoff.record(state.client_id, state.ended_decoders)
            state.ended_decoders = 0

    def seconds_left(self, client: str) -> float:
        """Return how long a client still has to wait; 0 if it may send files."""
        return self.backoff.seconds_left(client)

    def check(self, client: str) -> None:
        """Raise FrameError (429) while a client has to wait."""
        if seconds := self.seconds_left(client):
            message = "Your files ended several decoder processes: wait for the seconds in Retry-After."
            raise FrameError(ErrorCode.TOO_MANY, message, retry_after_seconds=seconds)


PENALTIES = DecoderPenalties()
