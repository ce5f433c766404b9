"""This service beside the obvious ways to serve the same network, and beside the network with nothing around it."""

import itertools
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import distribution
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.contenders import CONTENDERS, OURS, Started, frame_of, started
from benchmarks.report import table
from benchmarks.uploads import Upload, uploads
from service import pictures
from service.card import champion_folder
from service.machine import cores
from service.segmenter import Segmenter
from service.tensor import to_tensor

ROUNDS = 3
ROUND_SECONDS = 2.0
CONNECTIONS = (1, 2, 8)
OPEN_SHARES = (0.3, 0.5, 0.7, 0.9)
MANY = 64
SOAK = 20_000  # requests
SOAK_FIRST = 1_000
STARTS = 3
ALONE, WHOLE_WAY = "the network alone, in process", "file to PNG, in process"
LOCK = Path("deploy/requirements.txt")


def measure() -> dict[str, Any]:
    sent = uploads()
    starts = [_start() for _ in range(STARTS)]
    with ExitStack() as stack:
        servers = {one.name: stack.enter_context(started(one)) for one in CONTENDERS}
        figures = {
            "starts": starts,
            "closed": _closed(servers, sent),
            "open": _open(servers[OURS.name], sent[0]),
            "steps": [_steps(servers[OURS.name], upload) for upload in sent],
            "memory_mib": {name: round(server.memory_mib()) for name, server in servers.items()},
            "ready_seconds": {name: round(server.ready_seconds, 2) for name, server in servers.items()},
        }
    with started(OURS) as ours:
        figures["many"] = _many(ours, sent[0])
        figures["soak_mib"] = _soak(ours, sent[0])
    return figures | {"installed_mib": _installed()}


def _start() -> dict[str, float]:
    """Seconds to ready, and milliseconds of the very first answer."""
    with started(OURS) as server:
        first = _run(server, uploads()[0], 1, 10.0, count=1)
        return {"ready_seconds": round(server.ready_seconds, 2), "first_ms": round(first.milliseconds[0], 1)}


def _run(server: Started, upload: Upload, connections: int, seconds: float, **more: Any) -> load.Found:
    return load.run(load.Load(server.port, server.requests(upload), connections, seconds, **more))


def _closed(servers: dict[str, Started], sent: list[Upload]) -> list[dict[str, Any]]:
    """Every contender, upload and number of connections; rounds in turns, so that all meet the same machine."""
    asked = {name: partial(_run, server, seconds=ROUND_SECONDS) for name, server in servers.items()} | in_process()
    rows = []
    for upload, count in itertools.product(sent, CONNECTIONS):
        if count == CONNECTIONS[0]:
            for ask in asked.values():
                ask(upload, count)  # warm
        rounds = [{name: ask(upload, count) for name, ask in asked.items()} for _ in range(ROUNDS)]
        for name in asked:
            rows.append({"who": name, "upload": upload.name, "connections": count} | _told([r[name] for r in rounds]))
            print(*rows[-1].values(), file=sys.stderr)
    return rows


def _told(rounds: list[load.Found]) -> dict[str, Any]:
    """Medians over rounds of each round's own figures."""
    refused = sum((found.statuses for found in rounds), start=type(rounds[0].statuses)())
    refused.pop("200", None)

    def middle(of: Callable[[load.Found], float]) -> float:
        return round(statistics.median(map(of, rounds)), 2)

    shares = {"median": 50, "p95": 95, "p99": 99}
    figures = {name: middle(methodcaller("percentile", share)) for name, share in shares.items()}
    return figures | {"a_second": middle(attrgetter("a_second")), "refused": dict(refused)}


def in_process() -> dict[str, Callable[[Upload, int], load.Found]]:
    """The same network in this process: alone, and with the whole way of a frame from file to PNG."""
    segmenter = Segmenter(champion_folder())

    def alone(file: bytes, threads: int) -> Callable[[], Any]:
        tensor = to_tensor(frame_of(file), segmenter.card.input)[np.newaxis]
        return lambda: segmenter.runtime(tensor, threads == 1)

    def whole_way(file: bytes, threads: int) -> Callable[[], Any]:
        return lambda: pictures.png(segmenter.segment(frame_of(file)).mask)

    def timed(prepare: Callable[[bytes, int], Callable[[], Any]], upload: Upload, threads: int) -> load.Found:
        work = itertools.cycle([prepare(file, threads) for file in upload.files])
        found = load.Found()
        until = time.perf_counter() + ROUND_SECONDS

        def loop() -> Iterator[float]:
            while (start := time.perf_counter()) < until:
                next(work)()
                yield (time.perf_counter() - start) * 1000

        start = time.perf_counter()
        with ThreadPoolExecutor(min(threads, cores())) as pool:
            for times in pool.map(lambda _: list(loop()), range(min(threads, cores()))):
                found.milliseconds += times
        found.seconds = time.perf_counter() - start
        return found

    return {ALONE: partial(timed, alone), WHOLE_WAY: partial(timed, whole_way)}


def _open(server: Started, upload: Upload) -> list[dict[str, Any]]:
    """At shares of what the closed loop reached with 8 connections: times from when a request was due."""
    reached = _run(server, upload, 8, ROUND_SECONDS).a_second
    return [{"share": share, **_told([_run(server, upload, 1, 8.0, rate=reached * share)])} for share in OPEN_SHARES]


def _steps(server: Started, upload: Upload) -> dict[str, Any]:
    """Where a request's milliseconds go, one client asking: means, as the service itself tells Prometheus."""
    before = server.metrics()
    found = _run(server, upload, 1, ROUND_SECONDS)
    spent = {name: value - before.get(name, 0.0) for name, value in server.metrics().items()}

    def mean(name: str, **labels: str) -> float:
        key = frozenset(labels.items())
        return 1000 * spent[f"{name}_sum", key] / spent[f"{name}_count", key]

    steps = {step: mean("nervemask_step_seconds", step=step) for step in ("decode", "network", "answer")}
    request = mean("nervemask_request_seconds", route="/mask")
    asked = statistics.mean(found.milliseconds)
    told = {
        "file to pixels": steps["decode"],
        "tensor, network, mask": steps["network"],
        "mask to PNG": steps["answer"],
        "rest of the service: guards, BentoML, threads": request - sum(steps.values()),
        "outside it: HTTP, sockets, client": asked - request,
        "whole": asked,
    }
    return {"upload": upload.name} | {name: round(value, 2) for name, value in told.items()}


def _many(server: Started, upload: Upload) -> dict[str, Any]:
    """MANY clients at once; `mixed`: answers that are not the ones a lone client gets for the same file."""
    alone = _run(server, upload, 1, ROUND_SECONDS)
    together = _run(server, upload, MANY, 12.0)
    mixed = sum(
        count
        for lone, many in zip(alone.answers, together.answers, strict=True)
        for digest, count in many.items()
        if digest not in lone
    )
    return _told([together]) | {"single_median": round(alone.percentile(50), 2), "mixed": mixed}


def _soak(server: Started, upload: Upload) -> dict[str, float]:
    """MiB of the worker after the first answers, and after all."""
    answers, resident = 0, []
    for count in (SOAK_FIRST, SOAK - SOAK_FIRST):
        answers += _run(server, upload, 8, 600.0, count=count).statuses["200"]
        resident.append(round(server.memory_mib(), 1))
    return {"first": resident[0], "last": resident[1], "answers": answers}


def _installed() -> float:
    """MiB of the packages that the service needs, as they lie in this environment."""
    names = {line.split("==")[0] for line in LOCK.read_text().splitlines() if "==" in line}
    size = 0
    for name in names:
        try:
            files = distribution(name).files or []
        except ImportError:  # of another platform
            continue
        size += sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    return round(size / 2**20)


def tell(figures: dict[str, Any]) -> str:
    closed = figures["closed"]
    parts = ["### Against the bars", table(_bars(figures)), "### Closed loop, milliseconds"]
    parts += [table([row | {"refused": sum(row["refused"].values())} for row in closed])]
    parts += ["### Open loop, PNG 580x420, milliseconds from when a request was due", table(figures["open"])]
    parts += ["### Where a request's milliseconds go, one client", table(figures["steps"])]
    servers = [
        {"who": name, "ready, s": seconds, "memory, MiB": figures["memory_mib"][name]}
        for name, seconds in figures["ready_seconds"].items()
    ]
    parts += ["### Servers", table(servers)]
    parts += [f"This service three times: {figures['starts']}. Its packages take {figures['installed_mib']} MiB."]
    parts += [f"{MANY} clients: {figures['many']}. {figures['soak_mib']['answers']} requests: {figures['soak_mib']}."]
    return "\n\n".join(parts)


def _bars(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What the project holds itself to, and what this run reached; of PNG 580x420."""
    rows: dict[str, dict[int, Any]] = defaultdict(dict)
    for row in figures["closed"]:
        if row["upload"].startswith("PNG"):
            rows[row["who"]][row["connections"]] = row
    names = [contender.name for contender in CONTENDERS]
    ours, predict, mlflow = (rows[name] for name in names)
    alone, whole = rows[ALONE], rows[WHOLE_WAY]
    many, soak = figures["many"], figures["soak_mib"]

    def bar(what: str, reached: float, most: float | None = None, least: float | None = None) -> dict[str, Any]:
        kept = reached <= most if most is not None else reached >= (least or 0)
        wanted = f"at most {most}" if most is not None else f"at least {least}"
        return {"what": what, "bar": wanted, "reached": f"{reached:.2f}", "kept": "yes" if kept else "no"}

    return [
        bar("median against the network alone", ours[1]["median"] / alone[1]["median"], most=1.3),
        bar("median against file to PNG in process", ours[1]["median"] / whole[1]["median"], most=1.3),
        bar("times faster than model.predict behind ASGI", predict[1]["median"] / ours[1]["median"], least=6),
        bar("times faster than mlflow models serve", mlflow[1]["median"] / ours[1]["median"], least=6),
        bar("throughput of 8 against the network alone", ours[8]["a_second"] / alone[8]["a_second"], least=0.85),
        bar("throughput of 8 against file to PNG", ours[8]["a_second"] / whole[8]["a_second"], least=0.85),
        bar("p99 against the median", ours[1]["p99"] / ours[1]["median"], most=1.6),
        bar(f"{MANY} clients: refused or mixed up", many["mixed"] + sum(many["refused"].values()), most=0),
        bar(f"{MANY} clients: p99 against a single median", many["p99"] / many["single_median"], most=MANY),
        bar("seconds to ready", statistics.median(start["ready_seconds"] for start in figures["starts"]), most=2.5),
        bar("MiB of a worker", figures["memory_mib"][names[0]], most=300),
        bar("memory after all requests against the first 1,000", soak["last"] / soak["first"], most=1.05),
    ]
