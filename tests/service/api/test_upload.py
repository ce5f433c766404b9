"""Uploads have limits on their bytes and their time, and leave nothing behind."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.fair_concurrency_limiter import MAX_RUNNING_OR_QUEUED
from service.api.slow_transfer_timeout import MAX_CLIENT_WAIT_SECONDS, MIN_BYTES_PER_SECOND
from service.api.upload import MAX_MEMORY_WAIT_SECONDS, MAX_UPLOAD_BYTES, UploadMiddleware
from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError
from service.rendering.image_encoding import encode_png
from service.request_state import RequestState
from service.resources.worker_memory import FILE_MEMORY, SharedLimit
from tests.service.api.asgi import PNG, FrameRequest, disconnect
from tests.service.api.virtual_time import run_in_virtual_time

FORM = b"multipart/form-data; boundary=b"
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="frame"; filename="a.png"\r\n\r\n'


class UploadReader:
    """An app that keeps the bytes of its upload."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload = RequestState.of(scope).upload
        assert upload
        upload.seek(0)
        self.upload = upload.read()
        await Response()(scope, receive, send)


def parts(*bodies: bytes) -> list[Message]:
    """The ASGI messages of a body that comes in these parts."""
    messages = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    return [*messages, {"type": "http.request", "body": b"", "more_body": False}]


def error_code(app: ASGIApp, request: FrameRequest) -> ErrorCode:
    """The code of the error that the middleware raises for a request."""
    with pytest.raises(FrameError) as raised:
        run_in_virtual_time(request.send_to(app))
    return raised.value.code


@pytest.mark.parametrize(
    ("content_type", "messages"),
    [(b"image/png", parts(b"fra", b"me")), (FORM, parts(FORM_HEAD + b"fra", b"me\r\n--b--\r\n"))],
    ids=["raw", "multipart"],
)
def test_the_app_finds_the_upload_in_the_state(content_type, messages) -> None:
    app = UploadReader()
    middleware = UploadMiddleware(app)
    run_in_virtual_time(FrameRequest(messages, content_type=content_type).send_to(middleware))
    assert app.upload == b"frame"
    assert FILE_MEMORY.held == {}


@pytest.mark.parametrize(("content_type", "head"), [(b"image/png", b""), (FORM, FORM_HEAD)], ids=["raw", "multipart"])
def test_an_upload_is_refused_as_soon_as_it_is_too_large(monkeypatch, content_type, head) -> None:
    monkeypatch.setattr("service.api.upload.MAX_UPLOAD_BYTES", 1000)
    middleware = UploadMiddleware(UploadReader())
    request = FrameRequest(parts(head, *[bytes(100)] * 11)[:-1], content_type=content_type)
    assert error_code(middleware, request) == ErrorCode.TOO_LARGE
    assert FILE_MEMORY.held == {}


def test_an_upload_is_refused_when_the_memory_of_all_uploads_is_used(monkeypatch) -> None:
    files = SharedLimit(1000, free_shares=7)
    monkeypatch.setattr("service.resources.worker_memory.FILE_MEMORY", files)
    middleware = UploadMiddleware(UploadReader())
    files.reserve("another client", 500)
    assert error_code(middleware, FrameRequest(parts(bytes(400), bytes(400)))) == ErrorCode.TOO_MANY
    assert error_code(middleware, FrameRequest(parts(bytes(400), bytes(600)))) == ErrorCode.TOO_LARGE
    run_in_virtual_time(FrameRequest(parts(bytes(400))).send_to(middleware))
    assert files.held == {"another client": 500}


def test_an_upload_waits_for_the_bytes_that_it_declares_before_any_is_read(monkeypatch) -> None:
    files = SharedLimit(1000, free_shares=7)
    monkeypatch.setattr("service.resources.worker_memory.FILE_MEMORY", files)
    files.reserve("another client", 800)
    received_at: list[float] = []

    async def body() -> Message:
        received_at.append(asyncio.get_running_loop().time())
        return parts(bytes(400))[0] | {"more_body": False}

    async def send_while_free_after(seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, files.release, "another client", 500)
        await request.send_to(UploadMiddleware(UploadReader()))

    request = FrameRequest([], then=body, headers=[(b"content-length", b"400")])
    run_in_virtual_time(send_while_free_after(5))
    assert request.status == 200
    assert 4.9 < received_at.pop() < 6
    files.reserve("another client", 500)
    with pytest.raises(FrameError) as error:
        run_in_virtual_time(send_while_free_after(2 * MAX_MEMORY_WAIT_SECONDS))
    assert error.value.code == ErrorCode.TOO_MANY
    assert received_at.pop() > MAX_MEMORY_WAIT_SECONDS  # then it was forgotten
    assert files.held == {"another client": 800}


def test_a_slow_upload_is_refused() -> None:
    async def body_after_the_limit() -> Message:
        await asyncio.sleep(MAX_CLIENT_WAIT_SECONDS + 1)
        return parts()[0]

    request = FrameRequest(parts(b"x")[:1], then=body_after_the_limit)
    assert error_code(UploadMiddleware(UploadReader()), request) == ErrorCode.TOO_SLOW


def test_an_upload_at_the_minimum_rate_has_a_time_limit_too(monkeypatch) -> None:
    async def body_at_minimum_rate() -> Message:
        await asyncio.sleep(1)
        return parts(bytes(MIN_BYTES_PER_SECOND))[0]

    monkeypatch.setattr("service.api.upload.MAX_UPLOAD_SECONDS", MAX_CLIENT_WAIT_SECONDS + 5)
    request = FrameRequest(parts(b"x")[:1], then=body_at_minimum_rate)
    assert error_code(UploadMiddleware(UploadReader()), request) == ErrorCode.TOO_SLOW


def test_an_upload_that_breaks_off_leaves_no_bytes_reserved() -> None:
    middleware = UploadMiddleware(UploadReader())
    assert error_code(middleware, FrameRequest(parts(b"x")[:1], then=disconnect)) == ErrorCode.BROKE_OFF
    assert FILE_MEMORY.held == {}


# With a server


@pytest.mark.server
@pytest.mark.serial
def test_slow_uploads_block_no_other_request(address, client, segmenter, speckle) -> None:
    """There are more slow uploads than places in the queue; they get their masks in the end."""
    frames = [speckle(seed) for seed in range(MAX_RUNNING_OR_QUEUED + 1)]
    masks = [encode_png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]

    async def upload_slowly() -> list[httpx.Response]:
        first_response_received = asyncio.Event()

        async def body(data: bytes) -> AsyncIterator[bytes]:
            yield data[:100]
            await first_response_received.wait()
            yield data[100:]

        no_limit = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=no_limit) as connections:
            async with asyncio.TaskGroup() as group:
                uploads = [
                    group.create_task(connections.post("/mask", content=body(encode_png(pixels)), headers=PNG))
                    for pixels in frames
                ]
                await asyncio.sleep(1)
                response = await connections.post("/mask", content=encode_png(frames[0]), headers=PNG)
                first_response_received.set()
            assert response.content == masks[0]
            return [upload.result() for upload in uploads]

    for response, mask in zip(asyncio.run(upload_slowly()), masks, strict=True):
        assert response.status_code == 429 or response.content == mask


@pytest.mark.server
def test_uploads_that_break_off_leave_no_request_in_flight(address, client) -> None:
    host, port = address.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /mask HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
            )
    gauges = ("nervemask_requests_running ", "nervemask_requests_queued ")
    for _ in range(600):
        time.sleep(0.05)
        values = [line for line in client.get("/metrics").text.splitlines() if line.startswith(gauges)]
        if len(values) == 2 and all(line.endswith(" 0.0") for line in values):
            return
    raise AssertionError(f"requests stay in flight: {values}")


@pytest.mark.server
@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=b"])
def test_a_too_large_upload_is_refused_before_it_is_sent(address, content_type) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/mask")
    connection.putheader("content-type", content_type)
    connection.putheader("content-length", str(MAX_UPLOAD_BYTES + 1))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "too_large"
    connection.close()


@pytest.mark.server
def test_a_too_large_upload_of_unknown_length_gets_its_error_response(client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_UPLOAD_BYTES // 2**20 + 1):
            yield bytes(2**20)

    response = client.post("/mask", content=chunks(), headers=PNG)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize("content_type", ["image/jpg", "image/x-png", "image/pjpeg", "video/mp4"])
def test_the_content_decides_about_a_raw_body_not_its_content_type(client, grey, content_type) -> None:
    assert client.post("/mask", content=encode_png(grey), headers={"content-type": content_type}).status_code == 200
