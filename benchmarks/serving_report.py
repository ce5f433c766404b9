"""The Markdown of `benchmarks.serving`, and the limits for its figures."""

import statistics
from collections import defaultdict
from typing import Any

from benchmarks.compared_servers import PEERS
from benchmarks.report import table

MANY_CLIENTS = 64
NETWORK_ALONE, FILE_TO_PNG = "network alone, in process", "file to PNG, in process"


def to_markdown(figures: dict[str, Any]) -> str:
    servers = [
        {"server": name, "ready_seconds": seconds, "memory_mib": figures["memory_mib"][name]}
        for name, seconds in figures["ready_seconds"].items()
    ]
    sections = {
        "Limits": table(_limit_rows(figures)),
        "Closed loop": table([_with_refused_total(row) for row in figures["closed_loop"]]),
        "Open loop, PNG 580x420": "Load is the share of the closed loop's throughput. Latency counts from the "
        f"scheduled time.\n\n{table([_with_refused_total(row) for row in figures['open_loop']])}",
        "Steps of a request, one client, milliseconds": "Network includes preprocessing and postprocessing.\n\n"
        f"{table(figures['steps'])}",
        "Servers": table(servers),
        "Starts of this service": f"{table(figures['starts'])}\n\n"
        f"The service's packages take {figures['installed_mib']} MiB.",
        f"{MANY_CLIENTS} clients at once": table([_with_refused_total(figures["many_clients"])]),
        "Memory of a worker in a long run": table([figures["long_run"]]),
    }
    return "\n\n".join(f"### {heading}\n\n{text}" for heading, text in sections.items())


def _with_refused_total(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"refused": sum(row["refused"].values())}


def _limit_row(figure: str, value: float, minimum: float | None = None, maximum: float | None = None) -> dict[str, str]:
    if maximum is not None:
        limit, met = f"at most {maximum}", value <= maximum
    else:
        limit, met = f"at least {minimum}", value >= (minimum or 0)
    return {"figure": figure, "limit": limit, "value": f"{value:.2f}", "met": "yes" if met else "no"}


def _limit_rows(figures: dict[str, Any]) -> list[dict[str, str]]:
    """Return the project's limits and this run's values, for PNG 580x420."""
    rows: dict[str, dict[int, Any]] = defaultdict(dict)
    for row in figures["closed_loop"]:
        if row["upload"].startswith("PNG"):
            rows[row["server"]][row["connections"]] = row
    nervemask, plain_bentoml, keras_predict, mlflow = (rows[peer.name] for peer in PEERS)
    network, in_process = rows[NETWORK_ALONE], rows[FILE_TO_PNG]
    many, long_run = figures["many_clients"], figures["long_run"]
    median_ms, throughput = nervemask[1]["median_ms"], nervemask[8]["per_second"]
    refused_or_mismatched = many["mismatched"] + sum(many["refused"].values())
    return [
        _limit_row("median / network alone", median_ms / network[1]["median_ms"], maximum=1.3),
        _limit_row("median / file to PNG in process", median_ms / in_process[1]["median_ms"], maximum=1.25),
        _limit_row("speed-up against a plain BentoML service", plain_bentoml[1]["median_ms"] / median_ms, minimum=1),
        _limit_row("speed-up against model.predict", keras_predict[1]["median_ms"] / median_ms, minimum=6),
        _limit_row("speed-up against mlflow models serve", mlflow[1]["median_ms"] / median_ms, minimum=6),
        _limit_row("throughput of 8 clients / network alone", throughput / network[8]["per_second"], minimum=0.85),
        _limit_row(
            "throughput of 8 clients / file to PNG in process", throughput / in_process[8]["per_second"], minimum=1.0
        ),
        _limit_row(
            "throughput of 8 clients / plain BentoML service",
            throughput / plain_bentoml[8]["per_second"],
            minimum=1.0,
        ),
        _limit_row("p99 / median", nervemask[1]["p99_ms"] / median_ms, maximum=1.6),
        _limit_row(f"{MANY_CLIENTS} clients: refused or mismatched responses", refused_or_mismatched, maximum=0),
        _limit_row(
            f"{MANY_CLIENTS} clients: p99 / median of a single client",
            many["p99_ms"] / many["single_client_median_ms"],
            maximum=MANY_CLIENTS,
        ),
        _limit_row(
            "seconds until ready", statistics.median(start["ready_seconds"] for start in figures["starts"]), maximum=2.5
        ),
        _limit_row("MiB of a worker", figures["memory_mib"][PEERS[0].name], maximum=300),
        _limit_row(
            "memory after all requests / after 1,000",
            long_run["mib_after_all"] / long_run["mib_after_1,000"],
            maximum=1.05,
        ),
    ]
