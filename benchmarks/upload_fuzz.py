"""Mutated uploads against a running server: its responses, its workers and its memory.

`python -m benchmarks.upload_fuzz --uploads 100000`. Each upload is a mutation of a seed file (`benchmarks.mutations`).
An upload that gets an undocumented status, or whose connection breaks, is stored in reports/upload_fuzz under its
digest.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks import process_monitor
from benchmarks.compared_servers import NERVEMASK, run_server
from benchmarks.load_generator import Connection, encode_request
from benchmarks.mutations import Seed, make_seeds, mutate
from benchmarks.process_monitor import ProcessMonitor
from benchmarks.report import record, table
from service.decoding.decoder_process import MAX_DECODER_BYTES

TITLE = "Mutated uploads against a running server"
UPLOADS = 100_000
CONNECTIONS = 8
DOCUMENTED_STATUSES = ("200", "400", "413", "415", "422", "429", "503", "504")  # 500 is a defect of the service
NO_RESPONSE = "none"
# In this time every kind of upload comes often, the rare ones with many pixels too.
ROUND_SECONDS = 60.0
MAX_TOTAL_MIB = 4096  # the memory limit of the service's container in deploy/
FAILURES_FOLDER = Path("reports/upload_fuzz")


@dataclass
class Responses:
    """counts: responses by seed kind, status and error code. undocumented: description by the upload's digest."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    undocumented: dict[str, str] = field(default_factory=dict)
    slowest_ms: float = 0.0


async def send_mutants(port: int, uploads: int, seed: int = 0, progress: bool = False) -> Responses:
    """Send mutated uploads over CONNECTIONS connections. The same seed gives the same uploads."""
    rng, seeds, responses = random.Random(seed), make_seeds(), Responses()
    numbers = iter(track(range(uploads), "mutated uploads") if progress else range(uploads))

    async def send_on_one_connection() -> None:
        connection = Connection(port)
        for _ in numbers:
            seed_file = rng.choice(seeds)
            data = mutate(seed_file.data, rng.choice(seeds).data, rng)
            start = time.perf_counter()
            try:
                status, code = await _send(connection, seed_file, rng.choice(seed_file.routes), data)
            except (OSError, EOFError) as error:
                connection, status, code = Connection(port), NO_RESPONSE, type(error).__name__
            responses.slowest_ms = max(responses.slowest_ms, (time.perf_counter() - start) * 1000)
            responses.counts[seed_file.kind, status, code] += 1
            if status not in DOCUMENTED_STATUSES:
                responses.undocumented[_store_failure(data)] = f"{seed_file.kind}: {status} {code}"

    await asyncio.gather(*(send_on_one_connection() for _ in range(CONNECTIONS)))
    return responses


async def _send(connection: Connection, seed: Seed, route: str, data: bytes) -> tuple[str, str]:
    """Return the response's status and error code. The code of a success is ""."""
    status, body = await connection.send(base64.b64decode(encode_request(route, seed.content_type, data)))
    return status, "" if status == "200" else json.loads(body)["error"]["code"]


def _store_failure(data: bytes) -> str:
    """Store the upload and return its file name."""
    name = hashlib.sha256(data).hexdigest()[:16]
    FAILURES_FOLDER.mkdir(parents=True, exist_ok=True)
    (FAILURES_FOLDER / name).write_bytes(data)
    return name


def measure(uploads: int = UPLOADS) -> dict[str, Any]:
    with run_server(NERVEMASK) as server, ProcessMonitor(server.process.pid) as monitor:
        start = time.perf_counter()
        responses = asyncio.run(send_mutants(server.port, uploads, progress=True))
        seconds = time.perf_counter() - start
    return summarize(responses, monitor) | {"per_second": round(uploads / seconds, 1)}


def summarize(responses: Responses, monitor: ProcessMonitor) -> dict[str, Any]:
    """Return the figures of a run. worker_mib: the largest worker at first, and the largest of all samples."""
    samples, counts = monitor.samples, responses.counts.items()
    return {
        "responses": [[*key, count] for key, count in sorted(counts)],
        "undocumented": responses.undocumented,
        "slowest_ms": round(responses.slowest_ms),
        "interrupted_connections": sum(count for (_, status, _), count in counts if status == NO_RESPONSE),
        "worker_mib": [round(samples[0].worker_mib), round(max(sample.worker_mib for sample in samples))],
        "decoder_mib": round(max(sample.decoder_mib for sample in samples)),
        "total_mib": round(max(sample.total_mib for sample in samples)),
        **monitor.figures(ROUND_SECONDS),
    }


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit."""
    limits = {
        f"undocumented responses: {figures['undocumented']}": not figures["undocumented"],
        f"a decoder used {figures['decoder_mib']} MiB": figures["decoder_mib"] <= MAX_DECODER_BYTES / 2**20,
        f"all processes used {figures['total_mib']} MiB": figures["total_mib"] <= MAX_TOTAL_MIB,
    }
    return [message for message, met in limits.items() if not met] + process_monitor.violated_limits(figures)


def to_markdown(figures: dict[str, Any]) -> str:
    kinds = sorted({kind for kind, *_ in figures["responses"]})
    counts: dict[tuple[str, str], Counter[str]] = {}
    for kind, status, code, count in figures["responses"]:
        counts.setdefault((status, code), Counter())[kind] = count
    rows = [
        {"status": status, "error code": code} | {kind: by_kind[kind] for kind in kinds} | {"all": by_kind.total()}
        for (status, code), by_kind in sorted(counts.items())
    ]
    uploads = sum(count for *_, count in figures["responses"])
    first_mib, max_mib = figures["worker_mib"]
    lines = [
        f"{uploads} mutated uploads over {CONNECTIONS} connections, {figures['per_second']} per second, seed 0.",
        f"Undocumented responses: {len(figures['undocumented'])}. Slowest response: {figures['slowest_ms']} ms.",
        f"Interrupted connections: {figures['interrupted_connections']}.",
        *process_monitor.describe(figures),
        f"Largest worker: {first_mib} MiB at the start, {max_mib} MiB at most.",
        f"Largest decoder process: {figures['decoder_mib']} MiB. All processes together: {figures['total_mib']} MiB.",
        "Violated limits: " + ("; ".join(violated_limits(figures)) or "none") + ".",
    ]
    return "\n".join(lines) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upload_fuzz", description=TITLE)
    parser.add_argument("--uploads", type=int, default=UPLOADS, help="number of uploads (%(default)s)")
    uploads = parser.parse_args().uploads
    figures = record("upload_fuzz", lambda: measure(uploads), "upload_fuzz")
    sys.exit("; ".join(violated_limits(figures)) or 0)


if __name__ == "__main__":
    main()
