"""Clients without an API key that attack a server. Each keeps one connection open, and opens another when it is closed.

`python -m benchmarks.hostile_connections ATTACK` takes an `Attack` as JSON, attacks until its time is over,
and writes the number of connections of each kind to standard output. It runs in its own process, so that its memory
does not count as the server's, with a lower priority: a real attacker has its own processor.
"""

import asyncio
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from service.api.wrong_key_limiter import MAX_FREE_WRONG_KEYS

NICE = 10
PIECE_BYTES = 64 * 1024
MAX_HELD_SECONDS = 30.0  # then the client opens another connection
WRONG_KEYS_PER_SECOND = 3000
HOST = b"Host: 127.0.0.1\r\n"
WRONG_KEY = HOST + b"X-API-Key: wrong\r\n"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@dataclass(frozen=True)
class Attack:
    """What to send: `connections` are shared evenly by `kinds`, for a time."""

    port: int
    kinds: list[str]
    connections: int
    seconds: float


def repeat(piece: bytes) -> Iterator[bytes]:
    """Yield a piece of at least PIECE_BYTES forever."""
    return itertools.repeat(piece * max(1, PIECE_BYTES // len(piece)))


def pipelined_requests() -> Iterator[bytes]:
    """1.2 MB of requests at once."""
    yield (b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 30_000


def endless_url() -> Iterator[bytes]:
    """A URL without an end."""
    return itertools.chain([b"GET /"], repeat(b"a"))


def endless_header() -> Iterator[bytes]:
    """A header line without an end."""
    return itertools.chain([b"GET /livez HTTP/1.1\r\na: "], repeat(b"a"))


def endless_headers() -> Iterator[bytes]:
    """Headers without an end."""
    return itertools.chain([b"GET /livez HTTP/1.1\r\n"], repeat(b"a: b\r\n"))


def endless_trailers() -> Iterator[bytes]:
    """Trailers without an end, after a body."""
    head = b"POST /mask HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    return itertools.chain([head], repeat(b"a: b\r\n"))


def websocket_frame(opcode: int, payload: bytes, is_compressed: bool = False) -> bytes:
    """Return a frame of a client (RFC 6455), with a mask of zeros."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([0x80 | (0x40 if is_compressed else 0) | opcode]) + size + bytes(4) + payload


def deflated_frames() -> Iterator[bytes]:
    """A handshake with a wrong key, and at once 245 kB that become 239 MiB."""
    compressor = zlib.compressobj(wbits=-12)
    payload = (compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield b"GET /stream HTTP/1.1\r\n" + WRONG_KEY + UPGRADE + DEFLATE + b"\r\n"
    yield websocket_frame(2, payload, is_compressed=True) * 239


def unread_pongs() -> Iterator[bytes]:
    """A handshake without a key, and pings without an end."""
    return itertools.chain(
        [b"GET /stream HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n"], repeat(websocket_frame(9, bytes(125)))
    )


def one_byte_chunks() -> Iterator[bytes]:
    """A body of one-byte chunks without an end."""
    head = b"POST /mask HTTP/1.1\r\n" + WRONG_KEY + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    return itertools.chain([head], repeat(b"1\r\nx\r\n"))


def wrong_keys() -> Iterator[bytes]:
    """Requests with wrong keys. After more of them the service would make this client wait."""
    return itertools.repeat(b"GET /model HTTP/1.1\r\n" + WRONG_KEY + b"\r\n", MAX_FREE_WRONG_KEYS)


WRONG_KEYS = "wrong keys"  # at a rate; the others are as fast as they can
INPUTS = {
    "pipelined requests": [pipelined_requests],
    "heads without an end": [endless_url, endless_header, endless_headers, endless_trailers],
    "frames before the handshake": [deflated_frames],
    WRONG_KEYS: [wrong_keys],
    "one-byte chunks, pings": [one_byte_chunks, unread_pongs],
}


class HostileConnection(asyncio.Protocol):
    """A connection that never reads, except between requests that have an interval."""

    def __init__(self) -> None:
        self.closed, self.writable, self.answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        for event in (self.closed, self.writable, self.answered):
            event.set()

    def data_received(self, data: bytes) -> None:
        self.answered.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def send(self, pieces: Iterator[bytes]) -> None:
        """Send until the server closes the connection."""
        for piece in pieces:
            if self.closed.is_set():
                return
            self.transport.write(piece)
            await self.writable.wait()
            await asyncio.sleep(0)
        await self.closed.wait()

    async def request(self, pieces: Iterator[bytes], interval: float) -> None:
        """Send requests, each after the response to the one before and not before the interval is over."""
        self.transport.resume_reading()
        loop = asyncio.get_running_loop()
        for piece in pieces:
            start = loop.time()
            self.answered.clear()
            self.transport.write(piece)
            await self.answered.wait()
            await asyncio.sleep(max(0.0, start + interval - loop.time()))


def random_address() -> str:
    """Return one of the 16 million addresses of this machine."""
    return f"127.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"


async def hold(attack: Attack, kind: str, number: int, counts: Counter[str]) -> None:
    """Attack with one connection after the other, each from another address."""
    variants = INPUTS[kind]
    interval = attack.connections / len(attack.kinds) / WRONG_KEYS_PER_SECOND
    loop = asyncio.get_running_loop()
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(MAX_HELD_SECONDS):
                transport, connection = await loop.create_connection(
                    HostileConnection, "127.0.0.1", attack.port, local_addr=(random_address(), 0)
                )
                counts[kind] += 1
                try:
                    pieces = variants[number % len(variants)]()
                    await (connection.request(pieces, interval) if kind == WRONG_KEYS else connection.send(pieces))
                finally:
                    transport.abort()
        await asyncio.sleep(0)


async def run_attack(attack: Attack) -> Counter[str]:
    """Attack until the time is over; return the number of opened connections of each kind."""
    counts: Counter[str] = Counter()
    numbers = range(attack.connections // len(attack.kinds))
    tasks = [asyncio.create_task(hold(attack, kind, number, counts)) for kind in attack.kinds for number in numbers]
    await asyncio.wait(tasks, timeout=attack.seconds)
    for task in tasks:
        task.cancel()
    return counts


def start(attack: Attack) -> "subprocess.Popen[bytes]":
    """Attack from a separate process."""
    command = [sys.executable, "-m", "benchmarks.hostile_connections", json.dumps(asdict(attack))]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


if __name__ == "__main__":
    os.nice(NICE)
    import uvloop

    json.dump(uvloop.run(run_attack(Attack(**json.loads(sys.argv[1])))), sys.stdout)
