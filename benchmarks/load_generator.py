"""The HTTP client of the measurements. It sends prepared requests in a closed or open loop and hashes the responses.

`python -m benchmarks.load_generator` reads a `Load` as JSON from standard input and writes a `LoadResult` to standard
output. It runs in its own process, so that its cost does not count as the server's.

Closed loop: each connection sends its next request after the response to the last one. Open loop: requests start at a
fixed rate, even if earlier ones are in flight. Their latency counts from the scheduled time.
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

# Servers close connections after 5 s without a request. A request at that moment would look like an interruption.
MAX_IDLE_SECONDS = 3.0


@dataclass(frozen=True)
class Load:
    """What to send.

    requests: complete HTTP requests, base64, sent in turn. rate: requests per second of an open loop, or None for a
    closed loop. poisson: the requests of the open loop start as a Poisson process, seeded, with this mean rate. count:
    maximum number of requests of a closed loop.
    """

    port: int
    requests: list[str]
    connections: int
    seconds: float
    rate: float | None = None
    count: int | None = None
    poisson: bool = False


@dataclass
class LoadResult:
    """What came back.

    milliseconds: latency of each response, in the order of completion. statuses: number of responses per HTTP status.
    digests: for each request of the load, the number of responses per SHA-256 of their body. They show a response
    that belongs to another request.
    """

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    digests: list[Counter[str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency in milliseconds at this percentile, 0..100."""
        return float(np.percentile(self.milliseconds, percent))


def encode_request(path: str, content_type: str, body: bytes, key: str = "") -> str:
    """Return a complete HTTP/1.1 POST request, base64. key: an API key, if the server needs one."""
    headers = f"host: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
    headers += f"\r\nx-api-key: {key}" if key else ""
    return base64.b64encode(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body).decode()


def run(load: Load) -> LoadResult:
    """Send the load from a separate process."""
    command = [sys.executable, "-m", "benchmarks.load_generator"]
    completed = subprocess.run(command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    result = json.loads(completed.stdout)
    result["statuses"] = Counter(result["statuses"])
    result["digests"] = [Counter(counts) for counts in result["digests"]]
    return LoadResult(**result)


class Connection:
    """A keep-alive connection, opened at its first use.

    request_complete: the server has received the whole last request. retry_after: seconds, from the last response.
    """

    def __init__(self, port: int):
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.last_used = 0.0
        self.request_complete, self.retry_after = False, 0.0

    async def send(self, request: bytes) -> tuple[str, bytes]:
        """Return the response's status and body. Raises OSError or EOFError if the connection breaks."""
        self.request_complete = False
        reader, writer = self.streams = await self._open()
        writer.write(request)
        await writer.drain()
        self.request_complete = True
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        status, length = head[0].split()[1], headers.get("content-length")
        self.retry_after = float(headers.get("retry-after", 0))
        body = await (reader.readexactly(int(length)) if length else _read_chunked_body(reader))
        self.last_used = time.perf_counter()
        if headers.get("connection") == "close":
            writer.close()
        return status, body

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.streams:
            reader, writer = self.streams
            fresh = time.perf_counter() - self.last_used < MAX_IDLE_SECONDS
            if fresh and not reader.at_eof() and not writer.is_closing():
                return self.streams
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        writer.transport.set_write_buffer_limits(0)  # drain() then waits until the whole request is in the socket
        return reader, writer


async def _read_chunked_body(reader: asyncio.StreamReader) -> bytes:
    """Return a body in chunked transfer coding (RFC 9112, section 7.1). Raises EOFError if it ends too early."""
    body = b""
    while size := int(await reader.readuntil(b"\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\n")
    return body


async def run_at_rate(
    rate: float, seconds: float, send: Callable[[int, float], Coroutine[Any, Any, None]], poisson: bool = False
) -> None:
    """Start `send(number, scheduled_time)` `rate` times per second, even if earlier calls still run.

    poisson: with exponential intervals, seeded, instead of equal ones.
    """
    count = int(seconds * rate)
    intervals = np.random.default_rng(1).exponential(1 / rate, count) if poisson else np.full(count, 1 / rate)
    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, scheduled in enumerate(start + np.cumsum(intervals)):
            await asyncio.sleep(max(0.0, scheduled - time.perf_counter()))
            tasks.create_task(send(number, scheduled))


async def send_load(load: Load) -> LoadResult:
    requests = [base64.b64decode(request) for request in load.requests]
    result = LoadResult(digests=[Counter() for _ in requests])
    start = time.perf_counter()
    numbers = iter(range(load.count or sys.maxsize))

    async def send(connection: Connection, number: int, scheduled: float) -> None:
        index = number % len(requests)
        status, body = await connection.send(requests[index])
        result.milliseconds.append((time.perf_counter() - scheduled) * 1000)
        result.statuses[status] += 1
        result.digests[index][hashlib.sha256(body).hexdigest()] += 1

    async def closed_loop(connection: Connection) -> None:
        while (now := time.perf_counter()) < start + load.seconds:
            if (number := next(numbers, None)) is None:
                return
            await send(connection, number, now)

    idle_connections: list[Connection] = []

    async def send_scheduled(number: int, scheduled: float) -> None:
        connection = idle_connections.pop() if idle_connections else Connection(load.port)
        await send(connection, number, scheduled)
        idle_connections.append(connection)

    if load.rate is None:
        await asyncio.gather(*(closed_loop(Connection(load.port)) for _ in range(load.connections)))
    else:
        await run_at_rate(load.rate, load.seconds, send_scheduled, load.poisson)
    result.seconds = time.perf_counter() - start
    return result


if __name__ == "__main__":
    json.dump(vars(asyncio.run(send_load(Load(**json.load(sys.stdin))))), sys.stdout)
