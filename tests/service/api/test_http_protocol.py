"""Whatever a client sends, a connection holds few bytes, and the event loop serves the others."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from itertools import chain

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from benchmarks import hostile_connections
from service.api import event_loop_turns
from service.api.http_protocol import CHUNKED_SLICE_BYTES, MAX_WAITING_REQUESTS
from service.api.request_head_limits import MAX_HEADERS, MAX_HEADERS_BYTES, MAX_URL_BYTES
from service.errors import ErrorCode
from service.rendering.image_encoding import encode_png
from tests.conftest import patched
from tests.service.api.raw_client import connect, connect_in_memory, endless, send_until_closed

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /mask HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = hostile_connections.UPGRADE


def receive(client: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    received = b""
    while data := client.recv(2**16):
        received += data
    return received


def respond(address: str, sent: bytes) -> bytes:
    with connect(address) as client:
        client.sendall(sent)
        return receive(client)


def assert_is_error(response: bytes, status: int, code: ErrorCode) -> None:
    """The one response on the connection is an error in the service's format, and announces its end."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert body.startswith(b'{"error":{"code":"%s","message":"' % code.encode())


# heads


def spread(head: bytes) -> Iterator[bytes]:
    """A head in many small parts."""
    return (head[start : start + 700] for start in range(0, len(head), 700))


LONG_HEADS = {
    "long URL": (lambda: [b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\n\r\n"], 414),
    "URL without an end": (lambda: [b"GET /", *[b"a" * 2**16] * 9], 414),
    "URL in parts": (lambda: spread(b"GET /" + b"a" * 20_000), 414),
    "too many headers": (lambda: [GET + b"a: b\r\n" * MAX_HEADERS + b"\r\n"], 431),
    "headers without an end": (lambda: chain([GET], endless(b"a: b\r\n")), 431),
    "large header": (lambda: [GET + b"a: " + b"b" * MAX_HEADERS_BYTES + b"\r\n\r\n"], 431),
    "headers in parts": (lambda: spread(GET + (b"a: " + b"b" * 997 + b"\r\n") * 40), 431),
    "header line without an end": (lambda: chain([GET + b"a: "], endless(b"b")), 431),
    "header name without an end": (lambda: chain([GET], endless(b"b")), 431),
    "empty lines without an end": (lambda: endless(b"\r\n"), 431),
    "trailers without an end": (lambda: chain([POST + b"1\r\nx\r\n0\r\n"], endless(b"a: b\r\n")), 431),
    "trailer without an end": (lambda: chain([POST + b"1\r\nx\r\n0\r\na: "], endless(b"b")), 431),
    "chunk extension without an end": (lambda: chain([POST + b"1;a="], endless(b"b")), 431),
    "WebSocket with a long URL": (
        lambda: [b"GET /stream?a=" + b"b" * MAX_URL_BYTES + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n"],
        414,
    ),
    "WebSocket with a large header": (
        lambda: [b"GET /stream HTTP/1.1\r\n" + UPGRADE + b"a: " + b"b" * MAX_HEADERS_BYTES + b"\r\n\r\n"],
        431,
    ),
}


@pytest.mark.parametrize("name", LONG_HEADS)
def test_a_head_without_an_end_is_refused_and_the_connection_closes(address, name) -> None:
    make_pieces, status = LONG_HEADS[name]
    response = send_until_closed(address, make_pieces())
    assert_is_error(response, status, ErrorCode.URL_TOO_LONG if status == 414 else ErrorCode.HEADERS_TOO_LARGE)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez?" + b"a" * (MAX_URL_BYTES - len("/livez?")) + b" HTTP/1.1\r\nHost: localhost\r\n",
        GET + b"a: b\r\n" * (MAX_HEADERS - 2),
        GET + b"a: " + b"b" * (MAX_HEADERS_BYTES - 100) + b"\r\n",
    ],
)
def test_the_largest_heads_are_served(address, head) -> None:
    assert respond(address, head + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_handshake_that_the_websocket_library_does_not_read_is_refused(address) -> None:
    """uvicorn would keep the connection open for ever."""
    head = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"a: " + b"b" * 9000 + b"\r\n\r\n"
    assert_is_error(respond(address, head), 400, ErrorCode.BAD_REQUEST)


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET /livez HTTP/1.1\r\na b: c\r\n\r\n", POST + b"x\r\n"])
def test_a_malformed_request_gets_the_service_s_error(address, sent) -> None:
    assert_is_error(respond(address, sent), 400, ErrorCode.BAD_REQUEST)


# pipelined requests


def test_pipelined_requests_are_served_in_order(address) -> None:
    paths = ["/livez", "/docs.json", "/nowhere"]
    assert len(paths) == 1 + MAX_WAITING_REQUESTS
    requests = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" for path in paths]
    requests[-1] += "Connection: close\r\n"
    response = respond(address, "".join(f"{request}\r\n" for request in requests).encode())
    assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", response)] == [200, 200, 404]


def test_too_many_pipelined_requests_end_the_connection(address) -> None:
    received = send_until_closed(address, [(GET + b"\r\n") * 40])
    assert 1 <= received.count(b"HTTP/1.1 200 ") <= 1 + MAX_WAITING_REQUESTS
    assert received.endswith(b"\n")  # the whole body of /livez


async def waiting_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that does not answer; it never asks for a body."""
    if scope["type"] != "lifespan":
        await asyncio.get_running_loop().create_future()


def test_a_connection_holds_few_pipelined_requests_and_little_input() -> None:
    async def scene() -> None:
        connection = connect_in_memory(waiting_app)
        protocol = connection.protocol
        for _ in range(10):
            protocol.data_received((GET + b"\r\n") * 5000)
        assert len(protocol.pipeline) <= MAX_WAITING_REQUESTS
        assert protocol.unparsed == b""

    asyncio.run(scene())


def test_a_connection_that_the_client_resets_keeps_no_timer() -> None:
    """The timer would hold the last request in memory until the connection's keep-alive timeout."""

    async def responding_app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def scene() -> None:
        protocol = connect_in_memory(responding_app).protocol
        protocol.data_received(GET + b"\r\n")
        while not protocol.is_kept_alive:
            await asyncio.sleep(0)
        timer = protocol.timeout_keep_alive_task
        protocol.connection_lost(ConnectionResetError())
        assert timer.cancelled()

    asyncio.run(scene())


def test_a_request_for_a_stream_behind_another_request_ends_the_connection(address) -> None:
    """Otherwise both responses would be mixed."""
    sent = GET + b"\r\nGET /stream HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n"
    received = send_until_closed(address, [sent])
    assert received.count(b"HTTP/1.1 ") == 1


# bodies


def test_a_body_is_not_read_before_the_application_asks_for_it() -> None:
    """So a request that is refused for its key does not cost the memory of its body."""

    async def scene() -> None:
        connection = connect_in_memory(waiting_app)
        head = GET.replace(b"GET", b"POST") + b"Content-Length: 1000000\r\n\r\n"
        connection.protocol.data_received(head + bytes(1000))
        await asyncio.sleep(0)
        assert connection.is_paused
        reading = asyncio.create_task(connection.protocol.cycle.receive())
        await asyncio.sleep(0)
        assert not connection.is_paused
        assert len((await reading)["body"]) == 1000

    asyncio.run(scene())


def chunked(body: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def test_a_body_of_one_byte_chunks_gives_the_mask(address, client, speckle) -> None:
    frame = encode_png(speckle(1, 60, 80))
    mask = client.post("/mask", content=frame, headers={"content-type": "image/png"}).content
    head = POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert respond(address, head + chunked(frame)).endswith(mask)


def test_one_byte_chunks_are_parsed_in_slices_between_which_others_have_their_turn(monkeypatch) -> None:
    monkeypatch.setattr(event_loop_turns, "MAX_TURN_SECONDS", 0)
    sizes: list[int] = []

    async def reading_app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            sizes.append(len(message["body"]))
            if not message["more_body"]:
                return

    async def scene() -> int:
        connections = [connect_in_memory(reading_app) for _ in range(2)]
        for connection in connections:
            connection.protocol.data_received(POST + chunked(bytes(40_000)))
        iterations = 0
        while sum(sizes) < 80_000:
            iterations += 1
            await asyncio.sleep(0)
        return iterations

    iterations = asyncio.run(scene())
    assert max(sizes) <= CHUNKED_SLICE_BYTES // len(b"1\r\nx\r\n") + 1
    assert iterations >= len(sizes)


def test_after_a_response_few_bytes_of_a_connection_are_discarded() -> None:
    async def scene() -> None:
        connection = connect_in_memory(waiting_app)
        connection.protocol.data_received(b"nonsense\r\n\r\n")
        assert connection.written.startswith(b"HTTP/1.1 400 ")
        for _ in range(event_loop_turns.MAX_DISCARDED_BYTES // 2**20):
            connection.protocol.data_received(bytes(2**20))
            assert not connection.is_paused
        connection.protocol.data_received(b"x")
        assert connection.is_paused
        assert not connection.is_closed  # not yet: the client may still read the response

    asyncio.run(scene())


@pytest.mark.parametrize("framing", [b"Content-Length: 100000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1;"])
def test_a_refused_upload_gets_its_response_and_the_connection_closes(address, framing) -> None:
    """The client still sends. The rest of the body is not parsed."""
    head = b"POST /mask HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n" + framing
    received = send_until_closed(address, [head, *[b"1" * 2**16] * 16])
    assert_is_error(received, 415, ErrorCode.CONTENT_TYPE)


def test_a_request_after_a_complete_upload_uses_the_same_connection(address, speckle) -> None:
    with httpx.Client(base_url=address) as client:
        for _ in range(3):
            assert client.post("/mask", content=b"x", headers={"content-type": "image/png"}).status_code == 415
            assert client.get("/livez").status_code == 200
        (connection,) = client._transport._pool.connections  # type: ignore[attr-defined]
        assert "Request Count: 6" in repr(connection)


# responses

LARGE_RESPONSE = """
import service.api.idle_connection_timeout as timeout
timeout.MAX_CLIENT_WAIT_SECONDS, timeout.CHECK_INTERVAL_SECONDS = 1.0, 0.2
from starlette.responses import Response, StreamingResponse
from service.api.routes import starlette_app
def stream(request):
    return StreamingResponse(bytes(100_000) for _ in range(100))
starlette_app.router.add_route("/large", lambda request: Response(bytes(10_000_000)))
starlette_app.router.add_route("/stream-of-parts", stream)
"""


@pytest.mark.server
@pytest.mark.parametrize("path", ["/large", "/stream-of-parts"])
def test_a_client_that_does_not_take_its_response_is_disconnected(model_folder, tmp_path, path) -> None:
    """Also on routes that take no frame. A client that takes the response at its speed gets all of it."""
    with patched(LARGE_RESPONSE, model_folder, tmp_path) as server:
        assert len(httpx.get(f"{server.address}{path}").content) == 10_000_000
        with connect(server.address) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            deadline = time.monotonic() + 60
            with pytest.raises(ConnectionError):
                while time.monotonic() < deadline:
                    client.sendall(b"\r\n")  # fails once the server has closed the connection
                    time.sleep(0.1)
