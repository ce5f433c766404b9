"""The client: sends requests that were made beforehand, closed or open loop, and looks at every answer.

`python -m benchmarks.load` reads a `Load` as JSON from its input and writes a `Found` to its output: a process of its
own, so that what it costs is not the server's. Closed: each connection sends its next request when the last is
answered. Open: requests start at a fixed rate, whatever is under way, and their time counts from when they were due.
"""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

IDLE_SECONDS = 3.0  # servers end connections that idle for five: one that is asked just then would look cut


@dataclass(frozen=True)
class Load:
    """What to send. requests: whole HTTP requests, base64. rate: a second, open loop; None is closed."""

    port: int
    requests: list[str]
    connections: int
    seconds: float
    rate: float | None = None
    count: int | None = None  # requests at the most


@dataclass
class Found:
    """milliseconds: of each answer, in the order of their ends. answers: of each request, its digests and how often
    each came: one that belongs to another request stands out. statuses: how often each came."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    answers: list[Counter[str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def a_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds that this share (0 to 100) of the answers took at the most."""
        return float(np.percentile(self.milliseconds, share))


def request(path: str, kind: str, body: bytes) -> str:
    """A whole request, base64."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return base64.b64encode(head.encode() + body).decode()


def run(load: Load) -> Found:
    """Send it from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    found["statuses"], found["answers"] = Counter(found["statuses"]), [Counter(of) for of in found["answers"]]
    return Found(**found)


class Connection:
    """One to the server, opened when it is used. whole: the last request was sent to its end. retry_after: seconds, as
    the last answer says."""

    def __init__(self, port: int):
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.used = 0.0
        self.whole, self.retry_after = False, 0.0

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        """Status and body of the answer. Raises OSError, EOFError where the connection breaks."""
        self.whole = False
        reader, writer = self.streams = await self._open()
        writer.write(request)
        await writer.drain()
        self.whole = True
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        status, length = head[0].split()[1], headers.get("content-length")
        self.retry_after = float(headers.get("retry-after", 0))
        body = await (reader.readexactly(int(length)) if length else _chunks(reader))
        self.used = time.perf_counter()
        if headers.get("connection") == "close":
            writer.close()
        return status, body

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.streams:
            reader, writer = self.streams
            fresh = time.perf_counter() - self.used < IDLE_SECONDS
            if fresh and not reader.at_eof() and not writer.is_closing():
                return self.streams
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        writer.transport.set_write_buffer_limits(0)  # drained is then whole
        return reader, writer


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112, 7.1)."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def paced(rate: float, seconds: float, ask: Callable[[int, float], Coroutine[Any, Any, None]]) -> None:
    """Start `ask` with its number and when it is due, `rate` times a second, whatever is under way."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as under_way:
        for number in range(int(seconds * rate)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            under_way.create_task(ask(number, due))


async def send(load: Load) -> Found:
    requests = [base64.b64decode(request) for request in load.requests]
    found = Found(answers=[Counter() for _ in requests])
    started = time.perf_counter()
    numbers = iter(range(load.count or sys.maxsize))

    async def one(connection: Connection, number: int, due: float) -> None:
        which = number % len(requests)
        status, body = await connection.ask(requests[which])
        found.milliseconds.append((time.perf_counter() - due) * 1000)
        found.statuses[status] += 1
        found.answers[which][hashlib.sha256(body).hexdigest()] += 1

    async def closed(connection: Connection) -> None:
        while (now := time.perf_counter()) < started + load.seconds:
            if (number := next(numbers, None)) is None:
                return
            await one(connection, number, now)

    free: list[Connection] = []

    async def at(number: int, due: float) -> None:
        connection = free.pop() if free else Connection(load.port)
        await one(connection, number, due)
        free.append(connection)

    if load.rate is None:
        await asyncio.gather(*(closed(Connection(load.port)) for _ in range(load.connections)))
    else:
        await paced(load.rate, load.seconds, at)
    found.seconds = time.perf_counter() - started
    return found


if __name__ == "__main__":
    json.dump(vars(asyncio.run(send(Load(**json.load(sys.stdin))))), sys.stdout)
