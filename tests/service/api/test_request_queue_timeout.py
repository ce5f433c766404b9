"""Frame requests share slots, wait in the queue and have a deadline for their response."""

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.api.error_responses import ErrorMiddleware
from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.api.request_queue_timeout import MAX_RESPONSE_SECONDS, RequestQueueMiddleware
from service.api.slow_transfer_timeout import MAX_CLIENT_WAIT_SECONDS
from service.request_state import RequestState
from tests.service.api.asgi import FrameRequest, disconnect, post_frames, send_cine, with_middlewares
from tests.service.api.virtual_time import run_in_virtual_time


@pytest.fixture
def limiter() -> FairConcurrencyLimiter:
    return FairConcurrencyLimiter(1, max_running_or_queued=64)


async def failing_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("an internal detail")


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(2 * MAX_RESPONSE_SECONDS)


async def leaking_app(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse([{"error": "an internal detail"}], 503)(scope, receive, send)


async def quick_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.05)
    await JSONResponse({})(scope, receive, send)


async def long_cine_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends six parts, each within the deadline, all together far beyond it."""
    await send_cine(send, 6, lambda: asyncio.sleep(0.7 * MAX_RESPONSE_SECONDS))


@pytest.mark.parametrize(
    ("app", "status", "code"),
    [(failing_app, 500, "internal"), (slow_app, 504, "too_slow"), (leaking_app, 503, "not_ready")],
)
def test_a_failure_of_the_app_gets_an_error_response_without_details(limiter, app, status, code) -> None:
    (response,) = run_in_virtual_time(post_frames(limiter, [app]))
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert "detail" not in response.text
    assert limiter.running_or_queued == 0


def test_a_long_response_may_exceed_the_deadline_when_each_part_is_in_time(limiter) -> None:
    (response,) = run_in_virtual_time(post_frames(limiter, [long_cine_app]))
    assert response.text == "line\n" * 6


def test_each_step_of_a_deferred_response_extends_the_deadline(limiter) -> None:
    async def deferred_app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(6):
            await asyncio.sleep(0.7 * MAX_RESPONSE_SECONDS)
            finish_step = RequestState.of(scope).finish_step
            assert finish_step
            await finish_step()
        await JSONResponse({})(scope, receive, send)

    (response,) = run_in_virtual_time(post_frames(limiter, [deferred_app]))
    assert response.status_code == 200


def test_a_request_that_gets_no_slot_in_time_never_runs(limiter) -> None:
    started = []

    async def late_app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope)

    responses = run_in_virtual_time(post_frames(limiter, [slow_app, late_app]))
    assert [response.status_code for response in responses] == [504, 429]
    assert started == []


def test_a_request_above_the_queue_limit_is_refused_at_once() -> None:
    limiter = FairConcurrencyLimiter(1, max_running_or_queued=2)

    async def post_many() -> tuple[list[httpx.Response], list[httpx.Response]]:
        return await post_frames(limiter, [quick_app] * 20), await post_frames(limiter, [quick_app] * 2)

    burst, after_burst = run_in_virtual_time(post_many())
    assert sorted(response.status_code for response in burst) == [200] * 2 + [429] * 18
    assert [response.status_code for response in after_burst] == [200, 200]


def test_the_middleware_refuses_a_request_that_finds_the_queue_full() -> None:
    """InFlightLimitMiddleware may have admitted it while the queue had a place."""
    limiter, request = FairConcurrencyLimiter(1, max_running_or_queued=1), FrameRequest()

    async def fill_queue_and_send() -> None:
        await limiter.acquire("")
        await request.send_to(ErrorMiddleware(RequestQueueMiddleware(quick_app, limiter)))

    run_in_virtual_time(fill_queue_and_send())
    assert request.status == 429
    assert limiter.running_or_queued == 1


def test_a_request_whose_client_disconnects_in_the_queue_never_runs(limiter) -> None:
    started, request = [], FrameRequest(then=disconnect)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope)

    async def occupy_slot_and_send() -> None:
        await limiter.acquire("")
        await request.send_to(with_middlewares(app, limiter))
        limiter.release("")

    run_in_virtual_time(occupy_slot_and_send())
    assert request.status == 400
    assert started == []
    assert limiter.running_or_queued == 0


def test_a_cine_gives_its_slot_to_another_request_between_two_parts(limiter) -> None:
    order: list[str] = []

    async def cine_app(scope: Scope, receive: Receive, send: Send) -> None:
        async def compute() -> None:
            order.append("cine")
            await asyncio.sleep(0.05)

        await send_cine(send, 3, compute)

    async def frame_app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("frame")
        await JSONResponse({})(scope, receive, send)

    run_in_virtual_time(post_frames(limiter, [cine_app, frame_app]))
    assert order == ["cine", "frame", "cine", "cine"]


def test_a_slow_reader_holds_no_slot_and_is_cut_off(limiter) -> None:
    """The client takes two parts in its time; the response then has no end."""

    async def take_slowly(message) -> None:
        if message.get("body"):
            await asyncio.sleep(0.7 * MAX_CLIENT_WAIT_SECONDS)

    async def cine_app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_cine(send, 6, lambda: asyncio.sleep(1))

    async def read_slowly() -> list[bytes]:
        request = FrameRequest(delay_send=take_slowly)
        reading = asyncio.create_task(request.send_to(with_middlewares(cine_app, limiter)))
        await asyncio.sleep(2)
        assert limiter.running_or_queued == 0
        await reading
        assert request.sent[-1]["more_body"]
        return [message["body"] for message in request.sent if message.get("body")]

    assert run_in_virtual_time(read_slowly()) == [b"line\n"] * 2
    assert limiter.running_or_queued == 0
