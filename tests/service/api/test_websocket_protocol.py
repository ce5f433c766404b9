"""Whatever a client sends on a WebSocket, the service holds few bytes."""

import asyncio
import json
import socket
from itertools import chain

import pytest
from starlette.types import Receive, Scope, Send
from websockets.sync.client import connect as connect_stream

from benchmarks.hostile_connections import UPGRADE, deflated_frames, websocket_frame
from service.api.websocket_protocol import MAX_SMALL_FRAMES_PER_SECOND, SLICE_BYTES
from service.rendering.image_encoding import encode_png
from tests.service.api.raw_client import MemoryTransport, connect, connect_in_memory, endless, exchange_until_closed

HANDSHAKE = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE
BINARY, CONT, PING, PONG = 2, 0, 9, 10


def stream_address(address: str) -> str:
    return f"{address.replace('http', 'ws')}/stream"


def receive_handshake(client: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(2**16)
    return received


async def waiting_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that takes its time before it accepts a stream, like one that delays wrong keys."""
    if scope["type"] != "lifespan":
        await receive()
        await asyncio.get_running_loop().create_future()


async def accepting_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that accepts a stream and then is busy."""
    if scope["type"] != "lifespan":
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()


def queued_bytes(connection: MemoryTransport) -> int:
    queue = connection.protocol.queue
    events = [queue.get_nowait() for _ in range(queue.qsize())]
    return sum(len(event.get("bytes", b"")) for event in events)


def test_nothing_is_read_or_inflated_before_the_handshake_is_accepted() -> None:
    async def scene() -> None:
        connection = connect_in_memory(waiting_app)
        handshake, frames = deflated_frames()
        connection.protocol.data_received(handshake)
        await asyncio.sleep(0)
        assert connection.is_paused
        connection.protocol.data_received(frames)  # TLS may have read them already
        await asyncio.sleep(0)
        assert queued_bytes(connection) == 0
        assert connection.is_paused

    asyncio.run(scene())


def test_frames_that_come_with_the_handshake_are_not_read() -> None:
    async def scene() -> None:
        connection = connect_in_memory(waiting_app)
        connection.protocol.data_received(b"".join(deflated_frames()))
        await asyncio.sleep(0)
        assert connection.is_paused
        assert queued_bytes(connection) == 0

    asyncio.run(scene())


def test_messages_are_not_compressed(address) -> None:
    with connect(address) as client:
        client.sendall(HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        response = receive_handshake(client).lower()
    assert response.startswith(b"http/1.1 101 ")
    assert b"extensions" not in response


def test_a_compressed_message_is_an_error(address) -> None:
    frame = websocket_frame(BINARY, b"\x62\x60\0", is_compressed=True)
    with connect(address) as client:
        client.sendall(HANDSHAKE + b"\r\n")
        receive_handshake(client)
        assert b"\x03\xea" in exchange_until_closed(client, [frame])  # closed with 1002, protocol error


def accepted_connection() -> MemoryTransport:
    connection = connect_in_memory(accepting_app)
    connection.protocol.data_received(HANDSHAKE + b"\r\n")
    return connection


def test_no_pong_is_sent_while_the_client_takes_none() -> None:
    async def scene() -> None:
        connection = accepted_connection()
        await asyncio.sleep(0.01)
        protocol = connection.protocol
        written = len(connection.written)
        protocol.pause_writing()
        protocol.data_received(websocket_frame(PING, b"x") * 50)
        assert len(connection.written) == written
        assert connection.is_paused
        protocol.resume_writing()
        assert len(connection.written) > written
        assert not connection.is_paused
        protocol.stop_keepalive()

    asyncio.run(scene())


def test_few_messages_wait_for_the_application() -> None:
    async def scene() -> None:
        connection = accepted_connection()
        await asyncio.sleep(0.01)
        protocol = connection.protocol
        protocol.data_received(websocket_frame(BINARY, b"") * 40_000)
        assert 0 < protocol.queue.qsize() <= SLICE_BYTES // len(websocket_frame(BINARY, b""))
        assert connection.is_paused
        protocol.stop_keepalive()

    asyncio.run(scene())


FIRST_FRAGMENT, FRAGMENT = (bytes([opcode]) + websocket_frame(BINARY, b"x")[1:] for opcode in (BINARY, CONT))


@pytest.mark.parametrize("must_read", [True, False])
@pytest.mark.parametrize(
    ("first", "frame"),
    [(b"", websocket_frame(PING, b"x")), (b"", websocket_frame(PONG, b"x")), (FIRST_FRAGMENT, FRAGMENT)],
    ids=["pings", "pongs", "fragments"],
)
def test_a_flood_of_small_frames_ends_the_stream(address, first, frame, must_read) -> None:
    with connect(address) as client:
        client.sendall(HANDSHAKE + b"\r\n")
        receive_handshake(client)
        received = exchange_until_closed(client, chain([first], endless(frame)), must_read)
    if must_read:
        assert received.count(b"\x8a\x01x") <= SLICE_BYTES + 100 * MAX_SMALL_FRAMES_PER_SECOND  # pongs
        assert received.endswith(b"\x03\xf0too many small frames")  # closed with 1008, policy violation


def test_ordinary_pings_and_fragments_work(address, speckle) -> None:
    frame = encode_png(speckle(1, 60, 80))
    with connect_stream(stream_address(address)) as stream:
        for _ in range(20):
            assert stream.ping().wait(60)
        stream.send(frame)
        whole = json.loads(stream.recv())
        stream.send([frame[:10], b"", frame[10:11], frame[11:]])
        fragments = json.loads(stream.recv())
    assert whole["nerve"] == fragments["nerve"]
