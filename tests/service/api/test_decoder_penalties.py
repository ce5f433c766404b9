"""A client whose files end decoder processes waits longer each time; this is forgotten after a while."""

import asyncio

from service.api import client_in_flight_limit
from service.api.client_backoff import MEMORY_SECONDS
from service.api.client_in_flight_limit import InFlightLimitMiddleware
from service.api.decoder_penalties import MAX_PENALTY_SECONDS, DecoderPenalties
from service.api.error_responses import ErrorMiddleware
from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.errors import ErrorCode, FrameError
from service.request_state import RequestState
from tests.service.api.asgi import FrameRequest
from tests.service.api.virtual_time import run_in_virtual_time


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def end_decoder(penalties: DecoderPenalties, client: str) -> None:
    state = RequestState("/mask", client)
    state.count_ended_decoders(FrameError(ErrorCode.DECODER_ENDED, "It ended two decoder processes."))
    penalties.record(state)
    penalties.record(state)  # counts once


def test_the_wait_doubles_and_is_forgotten() -> None:
    clock = Clock()
    penalties = DecoderPenalties(clock)
    waits = []
    for _ in range(12):
        end_decoder(penalties, "a")
        waits.append(penalties.seconds_left("a"))
        clock.now += waits[-1]
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert penalties.seconds_left("a") == 0  # it has waited
    assert penalties.seconds_left("b") == 0
    clock.now += MEMORY_SECONDS + 1
    end_decoder(penalties, "a")
    assert penalties.seconds_left("a") == 0
    assert max(waits) == MAX_PENALTY_SECONDS


def test_other_errors_do_not_count() -> None:
    state = RequestState("/mask", "a")
    state.count_ended_decoders(FrameError(ErrorCode.NO_DECODER, "The decoder was stopped from outside."))
    state.count_ended_decoders(FrameError(ErrorCode.MALFORMED, "It is damaged."))
    assert state.ended_decoders == 0


def test_a_client_that_has_to_wait_learns_how_long_and_others_are_served(monkeypatch) -> None:
    penalties = DecoderPenalties(Clock())
    monkeypatch.setattr(client_in_flight_limit, "PENALTIES", penalties)
    for _ in range(6):
        end_decoder(penalties, "192.0.2.1")

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send() -> list[FrameRequest]:
        middleware = ErrorMiddleware(InFlightLimitMiddleware(app, FairConcurrencyLimiter(1)))
        requests = [FrameRequest(client=(address, 1)) for address in ("192.0.2.1", "192.0.2.2")]
        await asyncio.gather(*(request.send_to(middleware) for request in requests))
        return requests

    refused, served = run_in_virtual_time(send())
    assert (refused.status, served.status) == (429, 200)
    assert (b"retry-after", b"4") in refused.sent[0]["headers"]
