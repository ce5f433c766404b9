"""Limit how many frame requests are in flight, from their head to the end of their response."""

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.concurrency_limiter import LIMITER, ConcurrencyLimiter
from service.errors import too_many_error
from service.request import RequestState, is_frame_request

MAX_IN_FLIGHT = 256  # frame requests of one worker
MAX_IN_FLIGHT_PER_CLIENT = MAX_IN_FLIGHT // 2  # so that one client cannot block all others


class InFlightLimitMiddleware:
    """ASGI middleware: raises FrameError (429) for frame requests above the limits, before it reads their upload.

    It also refuses requests while the concurrency limiter is full: they could only be refused later.
    """

    def __init__(self, app: ASGIApp, limiter: ConcurrencyLimiter = LIMITER):
        self.app = app
        self.limiter = limiter
        self.in_flight: Counter[str] = Counter()  # frame requests by client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_frame_request(scope):
            await self.app(scope, receive, send)
            return
        client = RequestState.of(scope).client_id
        if (
            self.in_flight.total() >= MAX_IN_FLIGHT
            or self.in_flight[client] >= MAX_IN_FLIGHT_PER_CLIENT
            or self.limiter.is_full
        ):
            raise too_many_error()
        self.in_flight[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight[client] -= 1
            if not self.in_flight[client]:
                del self.in_flight[client]
