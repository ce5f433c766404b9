"""The number of frame requests in flight is limited, in all and per client; each admitted request gets its own mask."""

import asyncio
import select
import socket
from contextlib import ExitStack

import httpx
import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.client_in_flight_limit import MAX_IN_FLIGHT_PER_CLIENT, MIN_REFUSAL_SECONDS, InFlightLimitMiddleware
from service.api.fair_concurrency_limiter import MAX_RUNNING_OR_QUEUED, FairConcurrencyLimiter
from service.decoding.frame import Frame
from service.errors import FrameError
from service.rendering.image_encoding import encode_png
from service.resources.worker_count import worker_count
from tests.conftest import patched
from tests.service.api.asgi import PNG, FrameRequest
from tests.service.api.virtual_time import run_in_virtual_time

HEAD = b"POST /mask HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
ALICE, BOB = ("192.0.2.1", 1), ("192.0.2.2", 1)


@pytest.fixture
def limits(monkeypatch) -> None:
    monkeypatch.setattr("service.api.client_in_flight_limit.MAX_IN_FLIGHT", 6)
    monkeypatch.setattr("service.api.client_in_flight_limit.MAX_IN_FLIGHT_PER_CLIENT", 2)


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(1)
    await Response()(scope, receive, send)


async def failing_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError


async def statuses(app: ASGIApp, clients: list[tuple[str, int]]) -> list[int]:
    """The statuses of requests of these clients, all at the same time; of a refused one its error's status."""

    async def send_one(client: tuple[str, int]) -> int:
        request = FrameRequest(client=client)
        try:
            await request.send_to(app)
        except FrameError as error:
            return error.status
        return request.status

    return await asyncio.gather(*map(send_one, clients))


def test_a_client_cannot_exceed_its_share_and_does_not_block_others(limits) -> None:
    middleware = InFlightLimitMiddleware(slow_app, FairConcurrencyLimiter(1))
    assert run_in_virtual_time(statuses(middleware, [ALICE, ALICE, ALICE, BOB])) == [200, 200, 429, 200]
    assert middleware.in_flight.held == {}


def test_all_clients_together_cannot_exceed_the_limit(limits) -> None:
    middleware = InFlightLimitMiddleware(slow_app, FairConcurrencyLimiter(1))
    clients = [(f"192.0.2.{number}", 1) for number in range(8)]
    assert run_in_virtual_time(statuses(middleware, clients)) == [200] * 6 + [429] * 2
    assert middleware.in_flight.held == {}


def test_a_failed_request_is_no_longer_in_flight() -> None:
    middleware = InFlightLimitMiddleware(failing_app, FairConcurrencyLimiter(1))
    with pytest.raises(RuntimeError):
        run_in_virtual_time(FrameRequest().send_to(middleware))
    assert middleware.in_flight.held == {}


def test_a_request_is_refused_before_its_upload_when_the_queue_is_full() -> None:
    async def fill_queue_and_send() -> list[int]:
        await limiter.acquire(ALICE[0])
        return await statuses(InFlightLimitMiddleware(slow_app, limiter), [ALICE, BOB])

    limiter = FairConcurrencyLimiter(1, max_running_or_queued=1)
    assert run_in_virtual_time(fill_queue_and_send()) == [429, 200]


def test_a_refusal_comes_after_a_second() -> None:
    """Else a client that ignores Retry-After keeps a core busy with refusals."""

    async def send() -> float:
        await limiter.acquire(ALICE[0])
        assert await statuses(InFlightLimitMiddleware(slow_app, limiter), [ALICE]) == [429]
        return asyncio.get_running_loop().time()

    limiter = FairConcurrencyLimiter(1, max_running_or_queued=1)
    assert run_in_virtual_time(send()) == MIN_REFUSAL_SECONDS


def test_requests_without_a_frame_have_no_limit(limits) -> None:
    async def send_get_requests() -> None:
        middleware = InFlightLimitMiddleware(slow_app, FairConcurrencyLimiter(1, max_running_or_queued=0))
        scopes = [FrameRequest(path="/model").scope() | {"method": "GET"} for _ in range(10)]
        requests = [FrameRequest() for _ in scopes]
        async with asyncio.TaskGroup() as group:
            for scope, request in zip(scopes, requests, strict=True):
                group.create_task(middleware(scope, request.then, request.delay_send))

    run_in_virtual_time(send_get_requests())


# With a server


async def post_at_once(address: str, frames: list[bytes]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(client.post("/mask", content=frame, headers=PNG) for frame in frames))


@pytest.mark.server
@pytest.mark.serial
def test_each_of_a_hundred_simultaneous_requests_gets_its_own_mask(address, segmenter, speckle) -> None:
    frames = [speckle(seed) for seed in range(100)]
    masks = [encode_png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]
    assert len(set(masks)) == 100
    responses = asyncio.run(post_at_once(address, [encode_png(pixels) for pixels in frames]))
    for response, mask in zip(responses, masks, strict=True):
        if response.status_code == 429:
            assert response.json()["error"]["code"] == "too_many"
        else:
            assert response.content == mask
    assert sum(response.status_code == 200 for response in responses) >= MAX_RUNNING_OR_QUEUED


@pytest.mark.server
@pytest.mark.serial
def test_after_a_burst_of_ten_times_the_queue_the_service_responds_as_before(
    address, client, segmenter, speckle
) -> None:
    frame = encode_png(speckle(5))
    mask = encode_png(segmenter.segment(Frame(speckle(5))).mask)
    responses = asyncio.run(post_at_once(address, [frame] * (10 * MAX_RUNNING_OR_QUEUED)))
    assert {response.status_code for response in responses} <= {200, 429}
    for response in responses:
        if response.status_code == 200:
            assert response.content == mask
        else:
            assert response.headers["retry-after"] == "1"
    assert [client.post("/mask", content=frame, headers=PNG).content for _ in range(20)] == [mask] * 20


@pytest.mark.server
@pytest.mark.serial
def test_a_client_with_too_many_open_uploads_learns_when_to_try_again(address) -> None:
    host, port = address.removeprefix("http://").split(":")
    with ExitStack() as stack:
        uploads = []
        for _ in range(worker_count() * MAX_IN_FLIGHT_PER_CLIENT + 2):
            uploads.append(stack.enter_context(socket.create_connection((host, int(port)))))
            uploads[-1].sendall(HEAD % 99 + b"x")
        refused = select.select(uploads, [], [], 10)[0]
        response = refused[0].recv(4096)
        assert response.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in response
        assert b"connection: close" in response  # the next connection may reach the other worker
        assert httpx.get(f"{address}/readyz").status_code == 200


@pytest.mark.server
@pytest.mark.serial
def test_a_client_refused_during_its_upload_gets_the_whole_response(model_folder, tmp_path) -> None:
    """Without the lingering close, TCP would reset the connection, and the client would lose the response."""
    patch = "import service.api.client_in_flight_limit as limit\nlimit.MAX_IN_FLIGHT = 0"
    with patched(patch, model_folder, tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(HEAD % 20_000_000 + bytes(20_000_000))
            response = b"".join(iter(lambda: client.recv(4096), b""))
    assert response.startswith(b"HTTP/1.1 429 ")
    assert response.endswith(b"}")
