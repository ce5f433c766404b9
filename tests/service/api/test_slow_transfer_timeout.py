"""The time that the service waits for a client is bounded, and bytes earn time."""

import asyncio

import pytest
from starlette.types import Message

from service.api.slow_transfer_timeout import MAX_CLIENT_WAIT_SECONDS, MIN_BYTES_PER_SECOND, SlowTransferTimeout
from service.request_state import RequestState
from tests.service.api.virtual_time import run_in_virtual_time


@pytest.fixture
def state() -> RequestState:
    return RequestState("/mask", None)


def body_after(seconds: float, byte_count: int = 1):
    """An ASGI `receive` that returns a body part after a time."""

    async def receive() -> Message:
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": bytes(byte_count), "more_body": True}

    return receive


def test_small_parts_share_one_time_limit(state) -> None:
    async def receive_parts() -> int:
        timeout = SlowTransferTimeout(state)
        for parts in range(100):
            try:
                await timeout.receive(body_after(MAX_CLIENT_WAIT_SECONDS / 4.5))
            except TimeoutError:
                assert timeout.seconds_left == 0
                return parts
        return 100

    assert run_in_virtual_time(receive_parts()) == 4


def test_a_client_at_the_minimum_rate_never_times_out(state) -> None:
    async def receive_parts() -> float:
        timeout = SlowTransferTimeout(state)
        for _ in range(1000):
            await timeout.receive(body_after(1, MIN_BYTES_PER_SECOND))
        return timeout.seconds_left

    assert run_in_virtual_time(receive_parts()) == pytest.approx(MAX_CLIENT_WAIT_SECONDS)


def test_upload_and_response_of_a_request_share_the_time_limit(state) -> None:
    async def send_slowly(message: Message) -> None:
        await asyncio.sleep(0.6 * MAX_CLIENT_WAIT_SECONDS)

    async def receive_and_send() -> None:
        await SlowTransferTimeout(state).receive(body_after(0.6 * MAX_CLIENT_WAIT_SECONDS))
        with pytest.raises(TimeoutError):
            await SlowTransferTimeout(state).send(send_slowly, {"type": "http.response.body", "body": b""})

    run_in_virtual_time(receive_and_send())
