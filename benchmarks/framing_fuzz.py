"""Mutated bytes of HTTP/1.1 and WebSocket over raw sockets: the framing before and after authentication.

`python -m benchmarks.framing_fuzz --seconds 300`. A connection sends one stream of `benchmarks.framing_mutations`,
in pieces. After each batch /livez must answer. A stream with an undocumented server error, and the streams of a batch
after which /livez does not answer, are stored in reports/framing_fuzz under their digests.
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks import process_monitor
from benchmarks.compared_servers import NERVEMASK, run_server
from benchmarks.framing_mutations import StreamSeed, make_stream_seeds, mutate_stream
from benchmarks.process_monitor import ProcessMonitor
from benchmarks.report import record, table

TITLE = "Mutated HTTP and WebSocket framing"
RUN_SECONDS = 300
BATCH_STREAMS = 256
CONNECTIONS = 16
ALLOWED_SERVER_ERRORS = ("503", "504")
NO_RESPONSE = "none"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
MAX_PIECES = 4
MAX_RESPONSE_BYTES = 2**20
SILENCE_SECONDS = 0.2  # without a byte: the service waits for the rest of the stream
MAX_STREAM_SECONDS = 5.0
MAX_LIVEZ_SECONDS = 30.0
ROUND_SECONDS = 60.0
FAILURES_FOLDER = Path("reports/framing_fuzz")


@dataclass
class FramingResults:
    """counts: first statuses by kind of stream. failures: descriptions by the digests of the streams."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    silent_batches: int = 0


async def send_batch(port: int, streams: Iterable[tuple[StreamSeed, bytes, int]], results: FramingResults) -> None:
    """Send streams over CONNECTIONS connections at a time, each with a seed for its pieces."""
    waiting = iter(streams)

    async def send_on_one_connection() -> None:
        for seed, data, number in waiting:
            received = await _exchange(port, data, random.Random(number))
            statuses = [status.decode() for status in STATUS.findall(received)] or [NO_RESPONSE]
            results.counts[seed.kind, statuses[0]] += 1
            for status in statuses:
                if status.startswith("5") and status not in ALLOWED_SERVER_ERRORS:
                    _store_failure(data, f"{seed.kind}: {status}", results)

    await asyncio.gather(*(send_on_one_connection() for _ in range(CONNECTIONS)))


async def _exchange(port: int, data: bytes, rng: random.Random) -> bytes:
    """Send a stream in pieces on a connection of its own. Return what comes back, at most MAX_RESPONSE_BYTES."""
    received = bytearray()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(MAX_STREAM_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(MAX_PIECES)))
                for start, end in itertools.pairwise([0, *cuts, len(data)]):
                    writer.write(data[start:end])
                    await writer.drain()
                    await asyncio.sleep(0)
                if rng.random() < 0.5:
                    writer.write_eof()
                while len(received) < MAX_RESPONSE_BYTES:
                    part = await asyncio.wait_for(reader.read(65536), SILENCE_SECONDS)
                    if not part:
                        break
                    received += part
            finally:
                writer.transport.abort() if rng.random() < 0.5 else writer.close()
    return bytes(received)


def _store_failure(data: bytes, description: str, results: FramingResults) -> None:
    name = hashlib.sha256(data).hexdigest()[:16]
    FAILURES_FOLDER.mkdir(parents=True, exist_ok=True)
    (FAILURES_FOLDER / name).write_bytes(data)
    results.failures[name] = description


def is_alive(port: int) -> bool:
    """Return whether /livez answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=MAX_LIVEZ_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def fuzz(port: int, seed: int = 0, seconds: float = RUN_SECONDS, max_batches: int | None = None) -> FramingResults:
    """Send batches of mutated streams for a time. The same seed gives the same streams."""
    rng, seeds, results = random.Random(seed), make_stream_seeds(), FramingResults()
    end = time.monotonic() + seconds
    for _ in itertools.count() if max_batches is None else range(max_batches):
        if time.monotonic() > end:
            break
        streams = []
        for _ in range(BATCH_STREAMS):
            chosen = rng.choice(seeds)
            streams.append((chosen, mutate_stream(chosen.data, rng.choice(seeds).data, rng), rng.getrandbits(32)))
        asyncio.run(send_batch(port, streams, results))
        if not is_alive(port):
            results.silent_batches += 1
            for chosen, data, _ in streams:
                _store_failure(data, f"{chosen.kind}: /livez does not answer after this batch", results)
    return results


def measure(seconds: int = RUN_SECONDS) -> dict[str, Any]:
    with run_server(NERVEMASK) as server, ProcessMonitor(server.process.pid) as monitor:
        start = time.perf_counter()
        results = fuzz(server.port, seconds=seconds)
        elapsed = time.perf_counter() - start
    return summarize(results, monitor) | {"per_second": round(results.counts.total() / elapsed, 1)}


def summarize(results: FramingResults, monitor: ProcessMonitor) -> dict[str, Any]:
    return {
        "responses": [[*key, count] for key, count in sorted(results.counts.items())],
        "failures": results.failures,
        "silent_batches": results.silent_batches,
        "total_mib": round(max(sample.total_mib for sample in monitor.samples)),
        "interrupted_connections": 0,  # a mutated stream is allowed to end its connection
        **monitor.figures(ROUND_SECONDS),
    }


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit."""
    limits = {
        f"{len(figures['failures'])} streams failed: see {FAILURES_FOLDER}": not figures["failures"],
        f"/livez did not answer after {figures['silent_batches']} batches": not figures["silent_batches"],
        f"{figures['lost_workers']} workers ended": not figures["lost_workers"],
    }
    return [message for message, met in limits.items() if not met] + process_monitor.violated_limits(figures)


def to_markdown(figures: dict[str, Any]) -> str:
    kinds = sorted({kind for kind, _, _ in figures["responses"]})
    counts: dict[str, Counter[str]] = {}
    for kind, status, count in figures["responses"]:
        counts.setdefault(status, Counter())[kind] = count
    rows = [
        {"first status": status} | {kind: by_kind[kind] for kind in kinds} | {"all": by_kind.total()}
        for status, by_kind in sorted(counts.items())
    ]
    lines = [
        f"{sum(count for *_, count in figures['responses'])} mutated streams over {CONNECTIONS} connections at a time, "
        f"{figures['per_second']} per second, seed 0.",
        f"Server errors other than {' and '.join(ALLOWED_SERVER_ERRORS)}: {len(figures['failures'])}. "
        f"Batches of {BATCH_STREAMS} after which /livez did not answer: {figures['silent_batches']}.",
        *process_monitor.describe(figures),
        f"All processes together: {figures['total_mib']} MiB at most.",
        "Violated limits: " + ("; ".join(violated_limits(figures)) or "none") + ".",
        f"`{NO_RESPONSE}`: the service closed the connection, or waited for the rest of the stream.",
    ]
    return "\n".join(lines) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.framing_fuzz", description=TITLE)
    parser.add_argument("--seconds", type=int, default=RUN_SECONDS, help="duration in seconds (%(default)s)")
    seconds = parser.parse_args().seconds
    figures = record("framing_fuzz", lambda: measure(seconds), "framing_fuzz")
    sys.exit("; ".join(violated_limits(figures)) or 0)


if __name__ == "__main__":
    main()
