"""Clients of the tests that send any bytes, and connections without a network."""

import asyncio
import itertools
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from service.api.http_protocol import HttpProtocol
from service.api.websocket_protocol import WebSocketProtocol

MAX_SECONDS = 60.0  # only a hanging test needs more
MAX_SENT_BYTES = 256 * 2**20


def connect(address: str) -> socket.socket:
    """Return a connection to a server with an address such as http://127.0.0.1:3000."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


def endless(piece: bytes) -> Iterator[bytes]:
    """Yield about 64 KiB of a piece forever."""
    return itertools.repeat(piece * max(1, 2**16 // len(piece)))


def send_until_closed(address: str, pieces: Iterable[bytes]) -> bytes:
    """Send pieces on a new connection until the server closes it; return what the server has sent."""
    with connect(address) as client:
        return exchange_until_closed(client, pieces)


def exchange_until_closed(client: socket.socket, pieces: Iterable[bytes], must_read: bool = True) -> bytes:
    """Send pieces until the server closes the connection; return what the server has sent.

    must_read: take the responses while sending; otherwise pieces must be endless.
    """
    received, sent_bytes, unsent, pieces = b"", 0, b"", iter(pieces)
    deadline = time.monotonic() + MAX_SECONDS
    client.setblocking(False)
    with suppress(ConnectionError):
        while True:
            assert time.monotonic() < deadline and sent_bytes < MAX_SENT_BYTES, "the connection is still open"
            unsent = unsent or next(pieces, b"")
            readable, writable, _ = select.select([client] * must_read, [client] * bool(unsent), [], 1)
            if writable:
                count = client.send(unsent)
                sent_bytes, unsent = sent_bytes + count, unsent[count:]
            if readable:
                if not (data := client.recv(2**16)):
                    break
                received += data
    return received


class MemoryTransport(asyncio.Transport):
    """A connection whose client takes nothing: it keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = b""
        self.is_paused = False
        self.is_closed = False
        self.protocol: Any = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed


def connect_in_memory(app: ASGIApp) -> MemoryTransport:
    """Return a connection to an app; call it in an event loop. Its `protocol` takes data."""
    config = uvicorn.Config(app, log_config=None, http=HttpProtocol, ws=WebSocketProtocol, interface="asgi3")
    config.load()
    transport = MemoryTransport()
    transport.protocol = HttpProtocol(config=config, server_state=ServerState(), app_state={})
    transport.protocol.connection_made(transport)
    return transport
