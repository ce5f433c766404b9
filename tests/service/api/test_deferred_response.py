"""A response that is computed in steps shares its slot, is not too slow as a whole, and ends with its client."""

import asyncio
import io
import time
from collections.abc import Callable

import httpx
import pytest
from pydicom import dcmread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.deferred_response import DeferredResponse
from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.request_state import RequestState
from tests.conftest import patched
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.api.asgi import FrameRequest, post_frames, with_middlewares

MAX_SECONDS = 60.0  # only a deadlock needs more


@pytest.fixture
def limiter() -> FairConcurrencyLimiter:
    return FairConcurrencyLimiter(1, max_running_or_queued=64)


def test_another_request_runs_between_two_steps(limiter) -> None:
    finished = []

    def compute(report_step: Callable[[], None]) -> Response:
        for _ in range(6):
            report_step()
        finished.append("deferred")
        return Response()

    async def frame_app(scope: Scope, receive: Receive, send: Send) -> None:
        finished.append("frame")
        await Response()(scope, receive, send)

    asyncio.run(post_frames(limiter, [DeferredResponse(compute), frame_app]))
    assert finished == ["frame", "deferred"]
    assert limiter.running_or_queued == 0


def test_requests_that_wait_for_a_slot_take_no_thread_from_those_that_hold_one(limiter) -> None:
    """The default limit of threads is 40; with more requests, none of them could go on."""
    finished = []

    def compute(report_step: Callable[[], None]) -> Response:
        for _ in range(3):
            report_step()
        finished.append(True)
        return Response()

    responses = [DeferredResponse(compute) for _ in range(60)]
    asyncio.run(asyncio.wait_for(post_frames(limiter, responses), MAX_SECONDS))
    assert len(finished) == 60


def test_the_request_is_abandoned_when_its_client_disconnects(limiter) -> None:
    two_steps_done = asyncio.Event()
    steps = 0

    async def deferred_app(scope: Scope, receive: Receive, send: Send) -> None:
        def compute(report_step: Callable[[], None]) -> Response:
            nonlocal steps
            while not RequestState.of(scope).abandoned:
                report_step()
                steps += 1
                if steps == 2:
                    loop.call_soon_threadsafe(two_steps_done.set)
                assert steps < 100_000
                time.sleep(0.001)
            return Response()

        loop = asyncio.get_running_loop()
        await DeferredResponse(compute)(scope, receive, send)

    async def disconnect_after_two_steps() -> Message:
        await two_steps_done.wait()
        return {"type": "http.disconnect"}

    request = FrameRequest(then=disconnect_after_two_steps, path="/dicom", content_type=b"application/dicom")
    asyncio.run(request.send_to(with_middlewares(deferred_app, limiter)))
    assert steps >= 2
    assert limiter.running_or_queued == 0


LOG_STEPS = """
from service.api.request_queue_timeout import LimitedRequest

finish_step = LimitedRequest._finish_step

async def log_and_finish_step(self):
    print("a step is done", flush=True)
    await finish_step(self)

LimitedRequest._finish_step = log_and_finish_step
"""


@pytest.mark.server
def test_a_dicom_segmentation_takes_one_step_per_frame(model_folder, cine, tmp_path) -> None:
    with patched(LOG_STEPS, model_folder, tmp_path) as server:
        headers = {"content-type": "application/dicom"}
        upload = to_bytes(make_ultrasound(cine))
        response = httpx.post(f"{server.address}/dicom", content=upload, headers=headers, timeout=60)
        assert server.log.read_text().count("a step is done") == len(cine)
    assert response.status_code == 200, response.text
    assert dcmread(io.BytesIO(response.content)).NumberOfFrames == len(cine)
