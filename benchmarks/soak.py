"""Soak test: a long run at 80 % of capacity with injected faults. Each frame must get its own mask.

`python -m benchmarks.soak --minutes 30`. A worker is killed every minute, the champion is exchanged between the kills,
and every 20th upload is a mutated one. Capacity is measured again every ROUND_SECONDS, and the lowest value so far
counts, because the speed of a shared machine varies. The expected mask of each valid request is computed beforehand in
this process with the same network. Each valid request ends in one of these outcomes:

    correct            it got its mask, in the first attempt or a later one
    wrong              it got another mask, or an error
    lost               it got no mask in MAX_ATTEMPTS, and the server had received at least one attempt completely
    never accepted     it got no mask in MAX_ATTEMPTS, and the server refused every attempt

An attempt without a mask is one of:

    interrupted        the server had received the request completely, but the response broke off: a worker was killed
    refused            the server returned 429 or 503, or closed the connection before the request was complete

The client repeats both, after the response's Retry-After and a random, exponentially growing pause.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.progress import track

from benchmarks import process_monitor
from benchmarks.compared_servers import NERVEMASK, run_server
from benchmarks.process_monitor import ProcessMonitor
from benchmarks.report import FOLDER, record, table
from benchmarks.soak_run import (
    INCOMPLETE,
    INTERRUPTED,
    LOST,
    OUTCOMES,
    REFUSED,
    WRONG,
    SoakRun,
    expected_masks,
    link_two_models,
)
from benchmarks.upload_fuzz import DOCUMENTED_STATUSES
from service.model.model_folder import model_folder

TITLE = "Soak test with injected faults"
MINUTES = 30.0
FAULT_INTERVAL_SECONDS, ROUND_SECONDS = 60.0, 300.0
LOAD = 0.8  # share of capacity
SAMPLE_SECONDS = 0.2
STORED_SAMPLE_STEP = 10
PLOT = FOLDER / "soak.png"
FORBIDDEN_OUTCOMES = (WRONG, LOST)


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit."""
    undocumented = figures["mutated_uploads"].keys() - {*DOCUMENTED_STATUSES, INTERRUPTED, INCOMPLETE}
    counts = figures["counts"]
    violations = [f"{counts[outcome]} {outcome}" for outcome in FORBIDDEN_OUTCOMES if counts.get(outcome)]
    if undocumented:
        violations.append(f"undocumented statuses of mutated uploads: {sorted(undocumented)}")
    return violations + process_monitor.violated_limits(figures)


def measure(minutes: float = MINUTES) -> dict[str, Any]:
    seconds = minutes * 60
    rounds = max(1, round(seconds / ROUND_SECONDS))
    fault_seconds = min(FAULT_INTERVAL_SECONDS, seconds / 3)
    with tempfile.TemporaryDirectory() as folder:
        link = link_two_models(model_folder(), Path(folder))
        requests = expected_masks(link)
        with (
            run_server(NERVEMASK, NERVEMASK_MODEL=str(link)) as server,
            ProcessMonitor(server.process.pid, SAMPLE_SECONDS) as monitor,
        ):
            soak = SoakRun(server.port, link, monitor, requests)

            async def run() -> None:
                await soak.measure_capacity()  # warm-up
                soak.capacities.clear()
                for _ in track(range(rounds), "soak"):
                    await soak.measure_capacity()
                    await soak.run(LOAD * min(soak.capacities), seconds / rounds, fault_seconds)

            asyncio.run(run())
    memory = [
        [round(sample.seconds, 1), round(sample.total_mib), round(sample.worker_mib)]
        for sample in monitor.samples[::STORED_SAMPLE_STEP]
    ]
    return {"minutes": minutes, "memory": memory, **soak.figures(fault_seconds)}


def to_markdown(figures: dict[str, Any]) -> str:
    """Return the text, and draw PLOT."""
    _plot(figures)
    counts: Counter[str] = Counter(figures["counts"])
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(figures["mutated_uploads"].items()))
    lines = [
        f"{figures['minutes']:.0f} minutes at {LOAD:.0%} of capacity. Capacity by round, requests per second: "
        f"{', '.join(map(str, figures['capacities_per_second']))}. The lowest value so far counts.",
        f"Workers killed: {len(figures['kills_at_seconds'])}. "
        f"Champions exchanged: {len(figures['exchanges_at_seconds'])}.",
        f"Mutated uploads by status: {statuses}.",
        f"Attempts interrupted: {counts[INTERRUPTED]}, refused: {counts[REFUSED]}. "
        f"Interruptions that no kill explains: {figures['interrupted_connections']}.",
        *process_monitor.describe(figures),
        "Violated limits: " + ("; ".join(violated_limits(figures)) or "none") + ".",
    ]
    rows = [{"outcome of valid requests": outcome, "count": counts[outcome]} for outcome in OUTCOMES]
    return "\n".join(lines) + f"\n\n{table(rows)}\n\n![Memory over time]({PLOT.name})"


def _plot(figures: dict[str, Any]) -> None:
    seconds, total_mib, worker_mib = zip(*figures["memory"], strict=True)
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(seconds, total_mib, label="all processes")
    axes.plot(seconds, worker_mib, label="largest worker")
    for times, colour, label in (
        (figures["kills_at_seconds"], "red", "worker killed"),
        (figures["exchanges_at_seconds"], "green", "champion exchanged"),
    ):
        for index, at in enumerate(times):
            axes.axvline(at, color=colour, linewidth=0.8, label=None if index else label)
    axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None))
    axes.legend(loc="lower right")
    figure.savefig(PLOT, dpi=80, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=TITLE)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="duration in minutes (%(default)s)")
    minutes = parser.parse_args().minutes
    figures = record("soak", lambda: measure(minutes), "soak")
    sys.exit("; ".join(violated_limits(figures)) or 0)


if __name__ == "__main__":
    main()
