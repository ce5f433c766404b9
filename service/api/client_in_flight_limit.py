"""Limit how many frame requests are in flight, from their head to the end of their response."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.decoder_penalties import PENALTIES
from service.api.fair_concurrency_limiter import LIMITER, FairConcurrencyLimiter
from service.api.refusal_delay import REFUSAL_DELAY
from service.errors import FrameError, too_many_error
from service.request_state import RequestState
from service.resources.worker_memory import SharedLimit
from service.route_table import is_frame_request

MAX_IN_FLIGHT = 1024  # frame requests of one worker
MAX_IN_FLIGHT_PER_CLIENT = 128
MIN_REFUSAL_SECONDS, MAX_REFUSAL_SECONDS = 1.0, 10.0


class InFlightLimitMiddleware:
    """ASGI middleware: raises FrameError (429) for frame requests above the limits, before it reads their upload.

    Each limit is one of a client, so no client is refused because of another one. It also refuses a client's requests
    while the concurrency limiter takes none of them (they could only be refused later), and while the client has to
    wait because its files ended decoder processes.
    """

    def __init__(self, app: ASGIApp, limiter: FairConcurrencyLimiter = LIMITER):
        self.app = app
        self.limiter = limiter
        self.in_flight = SharedLimit(MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CLIENT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_frame_request(scope):
            await self.app(scope, receive, send)
            return
        state = RequestState.of(scope)
        try:
            self._admit(state.client_id)
        except FrameError:
            await REFUSAL_DELAY.wait(MIN_REFUSAL_SECONDS, MAX_REFUSAL_SECONDS)
            raise
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight.release(state.client_id)
            PENALTIES.record(state)

    def _admit(self, client: str) -> None:
        PENALTIES.check(client)
        self.limiter.check_room(client)
        if not self.in_flight.reserve(client):
            raise too_many_error()
