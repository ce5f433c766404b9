"""Mutated uploads against a running server: what it answers, what becomes of its workers, what memory it takes.

`python -m benchmarks.hostile --uploads 100000`. Each upload is one of `mutants.seeds`, spoilt. What is answered with a
status that no document promises, or lets a connection break, is kept in reports/hostile, named by its digest.
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

from benchmarks import watch
from benchmarks.contenders import OURS, started
from benchmarks.load import Connection, request
from benchmarks.mutants import Seed, mutant, seeds
from benchmarks.report import keep, table
from benchmarks.watch import Watch
from service.isolation import MEMORY_BYTES

UPLOADS = 100_000
CONNECTIONS = 8
DOCUMENTED = ("200", "400", "413", "415", "422", "429", "503", "504")  # 500 is a fault of the service
ROUND_SECONDS = 60.0  # in which every kind of upload comes often, and the few that are of many pixels too
WHOLE_MIB = 4096  # what deploy/ gives the service, all its processes together
KEPT = Path("reports/hostile")


@dataclass
class Answers:
    """answers: how often each kind of upload got each status and code. strange: status by the digest of its upload."""

    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    strange: dict[str, str] = field(default_factory=dict)
    slowest_ms: float = 0.0


async def attack(port: int, uploads: int, seed: int = 0, told: str | None = None) -> Answers:
    """Send so many mutants over CONNECTIONS; the same ones for the same seed. told: over a progress bar."""
    chance, sound, found = random.Random(seed), seeds(), Answers()
    numbers = iter(track(range(uploads), told) if told else range(uploads))

    async def sending() -> None:
        connection = Connection(port)
        for _ in numbers:
            one = chance.choice(sound)
            data = mutant(one.data, chance.choice(sound).data, chance)
            start = time.perf_counter()
            try:
                status, code = await _answer(connection, one, chance.choice(one.routes), data)
            except (OSError, EOFError) as fault:
                connection, status, code = Connection(port), "none", type(fault).__name__
            found.slowest_ms = max(found.slowest_ms, (time.perf_counter() - start) * 1000)
            found.answers[one.kind, status, code] += 1
            if status not in DOCUMENTED:
                found.strange[_kept(data)] = f"{one.kind}: {status} {code}"

    await asyncio.gather(*(sending() for _ in range(CONNECTIONS)))
    return found


async def _answer(connection: Connection, seed: Seed, route: str, data: bytes) -> tuple[str, str]:
    """Status and code."""
    status, body = await connection.ask(base64.b64decode(request(route, seed.type, data)))
    return status, "" if status == "200" else json.loads(body)["error"]["code"]


def _kept(data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()[:16]
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / name).write_bytes(data)
    return name


def measure(uploads: int) -> dict[str, Any]:
    with started(OURS) as server, Watch(server.process.pid) as watched:
        start = time.perf_counter()
        found = asyncio.run(attack(server.port, uploads, told="mutants"))
        seconds = time.perf_counter() - start
    return figures(found, watched) | {"a_second": round(uploads / seconds, 1)}


def figures(found: Answers, watched: Watch) -> dict[str, Any]:
    return {
        "answers": [[*of, count] for of, count in sorted(found.answers.items())],
        "strange": found.strange,
        "slowest_ms": round(found.slowest_ms),
        "cut": sum(count for (_, status, _), count in found.answers.items() if status == "none"),
        "worker_mib": [round(watched.looks[0].worker_mib), round(max(look.worker_mib for look in watched.looks))],
        "decoder_mib": round(max(look.decoder_mib for look in watched.looks)),
        "all_mib": round(max(look.all_mib for look in watched.looks)),
        **watched.figures(ROUND_SECONDS),
    }


def broken(of: dict[str, Any]) -> list[str]:
    """Promises that did not hold."""
    promises = {
        f"answers that no document promises: {of['strange']}": not of["strange"],
        f"a decoder took {of['decoder_mib']} MiB": of["decoder_mib"] <= MEMORY_BYTES / 2**20,
        f"all processes took {of['all_mib']} MiB": of["all_mib"] <= WHOLE_MIB,
    }
    return [what for what, held in promises.items() if not held] + watch.broken(of)


def tell(of: dict[str, Any]) -> str:
    kinds = sorted({kind for kind, *_ in of["answers"]})
    counts: dict[tuple[str, str], Counter[str]] = {}
    for kind, status, code, count in of["answers"]:
        counts.setdefault((status, code), Counter())[kind] = count
    rows = [
        {"status": status, "code": code or "a mask"} | {kind: by[kind] for kind in kinds} | {"all": by.total()}
        for (status, code), by in sorted(counts.items())
    ]
    uploads = sum(count for *_, count in of["answers"])
    said = [
        f"{uploads} mutated uploads over {CONNECTIONS} connections, {of['a_second']} a second, seed 0.",
        f"Answers that no document promises: {len(of['strange'])}. Slowest answer: {of['slowest_ms']} ms.",
        f"Connections cut: {of['cut']}.",
        *watch.told(of),
        f"Largest worker, MiB: {of['worker_mib'][0]} at first, {of['worker_mib'][1]} at the most.",
        f"Largest decoder: {of['decoder_mib']} MiB. All processes together: {of['all_mib']} MiB.",
        "Promises broken: " + ("; ".join(broken(of)) or "none") + ".",
    ]
    return "\n".join(said) + "\n\n" + table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--uploads", type=int, default=UPLOADS, help=f"how many ({UPLOADS})")
    uploads = parser.parse_args().uploads
    title = "Mutated uploads against a running server"
    of = keep("hostile", lambda: measure(uploads), title, tell, "hostile")
    sys.exit("; ".join(broken(of)) or 0)


if __name__ == "__main__":
    main()
