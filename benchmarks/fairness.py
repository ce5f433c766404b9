"""A client at ten times the capacity, with hostile files, beside another client.

`python -m benchmarks.fairness`. In each round, a client sends frames to an idle service, and again while a greedy one
sends GREEDY_LOAD times what the service can process, with hostile files among its frames. The greedy client runs in a
process of its own with the policy SCHED_IDLE: it shares the machine, and must not take cores from the service.
"""

import argparse
import asyncio
import base64
import io
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from PIL import Image

from benchmarks.compared_servers import NERVEMASK, RunningServer, run_server
from benchmarks.load_generator import Connection, encode_request, run_at_rate
from benchmarks.report import record, table
from benchmarks.sample_uploads import encode_image
from service.api.api_key_file import hash_key, write_key_hashes
from tests.frames import speckle

TITLE = "A greedy client beside another client"
ROUNDS, SECONDS = 3, 20.0
GREEDY_LOAD = 10.0  # times the capacity
RATE = 5.0  # requests per second of the other client
CAPACITY_CONNECTIONS, MAX_GREEDY_CONNECTIONS = 8, 1000
HOSTILE_INTERVAL = 20  # every so many requests of the greedy client
MAX_SLOWDOWN = 2.0
GREEDY, OTHER = "greedy", "other"
CONTENT_TYPE = "application/octet-stream"
BROKEN, NOT_SENT = "broken connection", "not sent"


def frames() -> list[bytes]:
    return [encode_image(".png", speckle(seed, 420, 580)) for seed in range(8)]


def hostile_files() -> list[tuple[str, bytes]]:
    """Return routes and files that are costly to decode or to render."""
    grey = cv2.resize(speckle(0, 512, 512), (2048, 2048))
    Image.fromarray(grey).save(file := io.BytesIO(), "JPEG", progressive=True)
    jpeg = file.getvalue()
    start = jpeg.rindex(b"\xff\xda")
    scan = jpeg[start:-2]
    words = cv2.resize(grey, (4096, 4096)).astype(np.uint16) * 257
    return [
        ("/mask", jpeg[:-2] + 60_000 * scan[:10] + jpeg[-2:]),
        ("/mask", jpeg[:-2] + 85 * scan + jpeg[-2:]),
        ("/overlay", cv2.imencode(".png", np.stack([words] * 4, axis=-1))[1].tobytes()),
        ("/segment", frames()[0][:-1000]),
    ]


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_key_hashes(Path(folder, "keys"), {name: hash_key(name) for name in (GREEDY, OTHER)})
        with run_server(NERVEMASK, NERVEMASK_KEYS=f"{folder}/keys") as server:
            asyncio.run(measure_capacity(server, 2.0))  # warm-up
            capacity = asyncio.run(measure_capacity(server, 5.0))
            rows = [_measure_round(server, capacity * GREEDY_LOAD, seconds) for _ in range(rounds)]
    return {"capacity_per_second": round(capacity, 1), "seconds": seconds, "rounds": rows}


def _measure_round(server: RunningServer, rate: float, seconds: float) -> dict[str, Any]:
    quiet = asyncio.run(send_as_other(server.port, seconds))
    command = [sys.executable, "-m", "benchmarks.fairness", "--greedy", str(server.port), str(rate), str(seconds + 4)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as greedy:
        time.sleep(2)
        loaded = asyncio.run(send_as_other(server.port, seconds))
        output, _ = greedy.communicate()
    return {"quiet": quiet, "loaded": loaded, "greedy": json.loads(output)}


async def measure_capacity(server: RunningServer, seconds: float) -> float:
    """Return the masks per second while CAPACITY_CONNECTIONS requests are always in flight."""
    files, end, count = itertools.cycle(frames()), time.perf_counter() + seconds, 0

    async def send(client: httpx.AsyncClient) -> None:
        nonlocal count
        while time.perf_counter() < end:
            response = await client.post("/mask", content=next(files))
            count += response.is_success

    async with _client(server.port, GREEDY) as client:
        await asyncio.gather(*(send(client) for _ in range(CAPACITY_CONNECTIONS)))
    return count / seconds


async def send_as_other(port: int, seconds: float) -> dict[str, Any]:
    """Send frames at RATE; return the percentiles of their latency in milliseconds, and refusals by status."""
    files, statuses = frames(), Counter[str]()
    milliseconds: list[float] = []

    async def send(number: int, scheduled: float) -> None:
        response = await client.post("/mask", content=files[number % len(files)])
        milliseconds.append((time.perf_counter() - scheduled) * 1000)
        statuses[str(response.status_code)] += 1

    async with _client(port, OTHER) as client:
        await run_at_rate(RATE, seconds, send)
    statuses.pop("200", None)
    median, p95 = np.percentile(milliseconds, (50, 95))
    return {"median_ms": round(median, 1), "p95_ms": round(p95, 1), "refused": dict(statuses)}


async def send_as_greedy(port: int, rate: float, seconds: float) -> dict[str, Any]:
    """Send frames and hostile files at `rate`, without regard for refusals; return responses by status.

    At most MAX_GREEDY_CONNECTIONS requests are in flight; above that a request is not sent.
    """
    requests, hostile = (
        [base64.b64decode(encode_request(route, CONTENT_TYPE, data, GREEDY)) for route, data in files]
        for files in ([("/mask", frame) for frame in frames()], hostile_files())
    )
    statuses, rng = Counter[str](), random.Random(0)
    idle, open_count = list[Connection](), 0

    async def send(number: int, _: float) -> None:
        nonlocal open_count
        if not idle and open_count >= MAX_GREEDY_CONNECTIONS:
            statuses[NOT_SENT] += 1
            return
        connection = idle.pop() if idle else Connection(port)
        open_count += 1
        is_hostile = number % HOSTILE_INTERVAL == 0
        try:
            status = (await connection.send(rng.choice(hostile) if is_hostile else requests[number % len(requests)]))[0]
            statuses[status] += 1
            idle.append(connection)
        except (OSError, EOFError):
            statuses[BROKEN] += 1
        finally:
            open_count -= 1

    start = time.perf_counter()
    await run_at_rate(rate, seconds, send)
    passed = time.perf_counter() - start
    return {"offered_per_second": round(rate, 1), "seconds": round(passed, 1), "statuses": statuses}


def _client(port: int, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": key, "content-type": CONTENT_TYPE}, timeout=120
    )


def slowdown(figures: dict[str, Any]) -> float:
    """Return the median over the rounds of the 95th percentile beside the greedy client, over that without it."""
    return statistics.median(row["loaded"]["p95_ms"] / row["quiet"]["p95_ms"] for row in figures["rounds"])


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit."""
    refused = sum((Counter(row["loaded"]["refused"]) for row in figures["rounds"]), Counter[str]())
    violations = [f"the other client was refused: {dict(refused)}"] if refused else []
    if (ratio := slowdown(figures)) > MAX_SLOWDOWN:
        violations.append(f"the other client's 95th percentile is {ratio:.2f} times its quiet value")
    return violations


def to_markdown(figures: dict[str, Any]) -> str:
    lines = [
        f"The other client sends {RATE:.0f} frames per second, in {len(figures['rounds'])} rounds of "
        f"{figures['seconds']:.0f} s. Capacity: {figures['capacity_per_second']} frames per second; the greedy client "
        f"offers {GREEDY_LOAD:.0f} times as many, every {HOSTILE_INTERVAL}th of them a hostile file. It has at most "
        f"{MAX_GREEDY_CONNECTIONS} requests in flight, and does not send those above.",
        f"95th percentile beside the greedy client, over that without it, median of the rounds: "
        f"{slowdown(figures):.2f}.",
        "Violated limits: " + ("; ".join(violated_limits(figures)) or "none") + ".",
    ]
    return "\n".join(lines) + "\n\n" + table([_describe_round(row) for row in figures["rounds"]])


def _describe_round(row: dict[str, Any]) -> dict[str, Any]:
    statuses = row["greedy"]["statuses"]
    return {
        "quiet, median ms": row["quiet"]["median_ms"],
        "quiet, p95 ms": row["quiet"]["p95_ms"],
        "beside the greedy client, median ms": row["loaded"]["median_ms"],
        "p95 ms": row["loaded"]["p95_ms"],
        "refused": sum(row["loaded"]["refused"].values()),
        "responses to the greedy client": ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=TITLE)
    parser.add_argument("--greedy", nargs=3, type=float, metavar=("PORT", "RATE", "SECONDS"), help="run as this client")
    arguments = parser.parse_args()
    if arguments.greedy:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        port, rate, seconds = arguments.greedy
        json.dump(asyncio.run(send_as_greedy(int(port), rate, seconds)), sys.stdout)
        return
    figures = record("fairness", measure, "soak")
    sys.exit("; ".join(violated_limits(figures)) or 0)


if __name__ == "__main__":
    main()
