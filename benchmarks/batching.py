"""Two ways to batch frames for a GPU: BentoML's adaptive batching behind API workers, and a network in each worker.

`python -m benchmarks.batching`. It needs no GPU: a stub replaces the network, so the figures are the overhead.
"""

import itertools
import json
from typing import Any

import psutil

from benchmarks.compared_servers import Peer, RunningServer, bentoml_command, run_server
from benchmarks.load_generator import Load, encode_request, run
from benchmarks.report import record, table

TITLE = "Batching for a GPU: the overhead of two designs"
WORKERS = 2
FRAME_SHAPE = (160, 224, 1)
CONNECTIONS = (1, 16)
ROUNDS, SECONDS = 3, 4.0
DESIGNS = {
    "AdaptiveBatching": "API workers and a network service with adaptive batching (`bentoml.depends`)",
    "DynamicBatching": "a network in each worker with dynamic batching",
}


def measure() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for _, name in itertools.product(range(ROUNDS), DESIGNS):
        command = bentoml_command(f"benchmarks.batching_services:{name}")
        with run_server(Peer(name, command, "/readyz", _make_request)) as server:
            _measure(server, CONNECTIONS[-1])  # warm-up
            rows += [{"design": name, **_measure(server, connections)} for connections in CONNECTIONS]
    return rows


def _make_request(_: str, seed: bytes) -> str:
    return encode_request("/predict", "application/json", json.dumps({"seed": int(seed)}).encode())


def _measure(server: RunningServer, connections: int) -> dict[str, Any]:
    requests = [_make_request("", str(seed).encode()) for seed in range(8)]
    before = _cpu_seconds(server)
    result = run(Load(server.port, requests, connections, SECONDS))
    refused = sum(count for status, count in result.statuses.items() if status != "200")
    mixed_up = sum(len(digests) > 1 for digests in result.digests)
    return {
        "connections": connections,
        "per_second": round(result.per_second, 1),
        "median_ms": round(result.percentile(50), 2),
        "cpu_ms": round((_cpu_seconds(server) - before) / len(result.milliseconds) * 1000, 2),
        "refused_or_mixed_up": refused + mixed_up,
    }


def _cpu_seconds(server: RunningServer) -> float:
    processes: list[psutil.Process] = [server.process, *server.process.children(recursive=True)]
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def to_markdown(figures: list[dict[str, Any]]) -> str:
    explained = "\n".join(f"- {name}: {text}" for name, text in DESIGNS.items())
    return f"{WORKERS} workers. `cpu ms` is the CPU time of all processes of the server, per request.\n\n" + (
        f"{explained}\n\n{table(figures)}"
    )


def main() -> None:
    """Measure, and write the report."""
    record("batching", measure, "gpu")


if __name__ == "__main__":
    main()
