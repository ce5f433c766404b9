"""This service, its peers, and the same network without a server: latency, throughput, start and memory."""

import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import distribution
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compared_servers import NERVEMASK, PEERS, RunningServer, decode_upload, run_server
from benchmarks.load_generator import Load, LoadResult, run
from benchmarks.sample_uploads import SampleUploads, make_sample_uploads
from benchmarks.serving_report import FILE_TO_PNG, MANY_CLIENTS, NETWORK_ALONE, to_markdown
from service.inference.preprocessing import preprocess
from service.inference.segmenter import Segmenter
from service.model.model_folder import model_folder
from service.rendering import image_encoding
from service.resources.container_limits import cpu_cores

__all__ = ["TITLE", "measure", "to_markdown"]

TITLE = "This service, its peers, and the same network without a server"
ROUNDS = 3
ROUND_SECONDS = 2.0
OPEN_LOOP_SECONDS, MANY_CLIENTS_SECONDS = 8.0, 12.0
CONNECTIONS = (1, 2, 8)
OPEN_LOOP_LOADS = (0.3, 0.5, 0.7, 0.9)  # shares of the closed loop's throughput
LONG_RUN_REQUESTS, FIRST_REQUESTS = 20_000, 1_000
LONG_RUN_SECONDS = 600.0
STARTS = 3
LOCK_FILE = Path("deploy/requirements.txt")


def measure() -> dict[str, Any]:
    uploads = make_sample_uploads()
    starts = [_measure_start(uploads[0]) for _ in range(STARTS)]
    with ExitStack() as stack:
        servers = {peer.name: stack.enter_context(run_server(peer)) for peer in PEERS}
        nervemask = servers[NERVEMASK.name]
        figures = {
            "starts": starts,
            "closed_loop": _measure_closed_loop(servers, uploads),
            "open_loop": _measure_open_loop(nervemask, uploads[0]),
            "steps": [_measure_steps(nervemask, sample) for sample in uploads],
            "memory_mib": {name: round(server.memory_mib()) for name, server in servers.items()},
            "ready_seconds": {name: round(server.ready_seconds, 2) for name, server in servers.items()},
        }
    with run_server(NERVEMASK) as server:
        figures["many_clients"] = _measure_many_clients(server, uploads[0])
        figures["long_run"] = _measure_long_run(server, uploads[0])
    return figures | {"installed_mib": _installed_mib()}


def _measure_start(uploads: SampleUploads) -> dict[str, float]:
    """Return the seconds until the service is ready, and the milliseconds of its first response."""
    with run_server(NERVEMASK) as server:
        first = _run(server, uploads, 1, 10.0, count=1)
        return {
            "ready_seconds": round(server.ready_seconds, 2),
            "first_response_ms": round(first.milliseconds[0], 1),
        }


def _run(server: RunningServer, uploads: SampleUploads, connections: int, seconds: float, **options: Any) -> LoadResult:
    return run(Load(server.port, server.requests(uploads), connections, seconds, **options))


def _measure_closed_loop(servers: dict[str, RunningServer], uploads: list[SampleUploads]) -> list[dict[str, Any]]:
    """Measure every server, upload and number of connections. Rounds alternate, as the machine's speed varies."""
    runs: dict[str, Callable[[SampleUploads, int], LoadResult]] = {
        name: partial(_run, server, seconds=ROUND_SECONDS) for name, server in servers.items()
    }
    runs |= in_process_runs()
    rows = []
    for sample, connections in itertools.product(uploads, CONNECTIONS):
        if connections == CONNECTIONS[0]:
            for run_once in runs.values():
                run_once(sample, connections)  # warm-up
        rounds = [{name: run_once(sample, connections) for name, run_once in runs.items()} for _ in range(ROUNDS)]
        for name in runs:
            row = {"server": name, "upload": sample.name, "connections": connections}
            rows.append(row | _summarize([results[name] for results in rounds]))
            print(*rows[-1].values(), file=sys.stderr)
    return rows


def _summarize(rounds: list[LoadResult]) -> dict[str, Any]:
    """Return the medians of the rounds' own figures, and the number of responses per status other than 200."""
    refused = sum((result.statuses for result in rounds), start=Counter[str]())
    refused.pop("200", None)

    def median(figure: Callable[[LoadResult], float]) -> float:
        return round(statistics.median(map(figure, rounds)), 2)

    percentiles = {"median_ms": 50, "p95_ms": 95, "p99_ms": 99}
    latencies = {name: median(methodcaller("percentile", percent)) for name, percent in percentiles.items()}
    return latencies | {"per_second": median(attrgetter("per_second")), "refused": dict(refused)}


def in_process_runs() -> dict[str, Callable[[SampleUploads, int], LoadResult]]:
    """Return runs of the network in this process: alone, and with decoding and encoding around it."""
    segmenter = Segmenter(model_folder())

    def network_alone(file: bytes, threads: int) -> Callable[[], Any]:
        tensor = preprocess(decode_upload(file), segmenter.card.input)[np.newaxis]
        return lambda: segmenter.runtime(tensor, threads == 1)

    def file_to_png(file: bytes, threads: int) -> Callable[[], Any]:
        return lambda: image_encoding.encode_png(segmenter.segment(decode_upload(file)).mask)

    return {NETWORK_ALONE: partial(_run_in_process, network_alone), FILE_TO_PNG: partial(_run_in_process, file_to_png)}


def _run_in_process(
    make_task: Callable[[bytes, int], Callable[[], Any]], uploads: SampleUploads, threads: int
) -> LoadResult:
    """Repeat the tasks of all files for ROUND_SECONDS, on at most as many threads as there are cores."""
    tasks = itertools.cycle([make_task(file, threads) for file in uploads.files])
    result = LoadResult()
    end = time.perf_counter() + ROUND_SECONDS

    def loop() -> Iterator[float]:
        while (start := time.perf_counter()) < end:
            next(tasks)()
            yield (time.perf_counter() - start) * 1000

    start = time.perf_counter()
    with ThreadPoolExecutor(min(threads, cpu_cores())) as pool:
        for times in pool.map(lambda _: list(loop()), range(min(threads, cpu_cores()))):
            result.milliseconds += times
    result.seconds = time.perf_counter() - start
    return result


def _measure_open_loop(server: RunningServer, uploads: SampleUploads) -> list[dict[str, Any]]:
    """Measure at shares of the closed loop's throughput with 8 connections."""
    capacity = _run(server, uploads, 8, ROUND_SECONDS).per_second
    return [
        {"load": load, **_summarize([_run(server, uploads, 1, OPEN_LOOP_SECONDS, rate=capacity * load)])}
        for load in OPEN_LOOP_LOADS
    ]


def _measure_steps(server: RunningServer, uploads: SampleUploads) -> dict[str, Any]:
    """Return the mean milliseconds of each step of a request of one client, from the service's own metrics."""
    before = server.metrics()
    result = _run(server, uploads, 1, ROUND_SECONDS)
    increases = {name: value - before.get(name, 0.0) for name, value in server.metrics().items()}

    def mean_ms(name: str, **labels: str) -> float:
        key = frozenset(labels.items())
        return 1000 * increases[f"{name}_sum", key] / increases[f"{name}_count", key]

    steps = {step: mean_ms("nervemask_step_duration_seconds", step=step) for step in ("decode", "network", "answer")}
    request = mean_ms("nervemask_request_duration_seconds", route="/mask")
    total = statistics.mean(result.milliseconds)
    means = {
        "decoding": steps["decode"],
        "network": steps["network"],
        "encoding": steps["answer"],
        "rest_of_service": request - sum(steps.values()),
        "client_and_http": total - request,
        "total": total,
    }
    return {"upload": uploads.name} | {name: round(value, 2) for name, value in means.items()}


def _measure_many_clients(server: RunningServer, uploads: SampleUploads) -> dict[str, Any]:
    """Measure MANY_CLIENTS clients. mismatched: responses that a single client does not get for the same file."""
    single = _run(server, uploads, 1, ROUND_SECONDS)
    many = _run(server, uploads, MANY_CLIENTS, MANY_CLIENTS_SECONDS)
    mismatched = sum(
        count
        for expected, digests in zip(single.digests, many.digests, strict=True)
        for digest, count in digests.items()
        if digest not in expected
    )
    single_median_ms = round(single.percentile(50), 2)
    return _summarize([many]) | {"single_client_median_ms": single_median_ms, "mismatched": mismatched}


def _measure_long_run(server: RunningServer, uploads: SampleUploads) -> dict[str, float]:
    """Return the MiB of the worker after the first requests and after all, and the number of masks."""
    masks, memory_mib = 0, []
    for count in (FIRST_REQUESTS, LONG_RUN_REQUESTS - FIRST_REQUESTS):
        masks += _run(server, uploads, 8, LONG_RUN_SECONDS, count=count).statuses["200"]
        memory_mib.append(round(server.memory_mib(), 1))
    return {"masks": masks, "mib_after_1,000": memory_mib[0], "mib_after_all": memory_mib[1]}


def _installed_mib() -> float:
    """Return the MiB of the service's locked packages, as installed in this environment."""
    names = {line.split("==")[0] for line in LOCK_FILE.read_text().splitlines() if "==" in line}
    size = 0
    for name in names:
        try:
            files = distribution(name).files or []
        except ImportError:  # a package of another platform
            continue
        size += sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    return round(size / 2**20)
