"""Monitor a server's processes during a robustness test: which workers run, and the memory of all processes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

MAX_GAP_SECONDS = 1.0  # until a new worker replaces a lost one
MAX_MEMORY_GROWTH = 1.05
MEMORY_PERCENTILE = 90

WORKER, DECODER = "_bentoml_impl.worker.service", "service.decoding.decoder_process"


@dataclass(frozen=True)
class Sample:
    """The processes at one moment: seconds since the start, worker process ids, and resident memory in MiB.

    worker_mib, decoder_mib: of the largest process of that kind.
    """

    seconds: float
    workers: frozenset[int]
    worker_mib: float
    decoder_mib: float
    total_mib: float


@contextmanager
def repeated(read: Callable[[], float], seconds: float) -> Iterator[list[float]]:
    """Yield a list to which a thread adds a value of `read` every so many seconds, until the block ends."""
    values, stop = list[float](), threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            values.append(read())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield values
    finally:
        stop.set()
        thread.join()


@dataclass
class ProcessMonitor:
    """A context manager that samples the process `pid` and its descendants from a thread."""

    pid: int
    interval_seconds: float = 0.1
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> "ProcessMonitor":
        self._start, self._stop = time.perf_counter(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.interval_seconds):
            self.samples.append(take_sample(self.pid, time.perf_counter() - self._start))

    def lost_workers(self) -> int:
        """Return the number of workers that ended."""
        return len(frozenset().union(*(sample.workers for sample in self.samples)) - self.samples[-1].workers)

    def longest_gap_seconds(self) -> float:
        """Return the longest time with fewer workers than in the first sample."""
        expected, complete_since, longest = len(self.samples[0].workers), self.samples[0].seconds, 0.0
        for sample in self.samples:
            if len(sample.workers) >= expected:
                complete_since = sample.seconds
            longest = max(longest, sample.seconds - complete_since)
        return longest

    def memory_growth(self, round_seconds: float) -> float | None:
        """Return the total memory in the last fifth of the time, divided by that in the second fifth.

        Each is the 90th percentile over its samples: after a kill, the decoder processes start one by one, and the
        memory is low. Returns None if a fifth is shorter than one round of faults: two such fifths are not comparable.
        """
        fifth = len(self.samples) // 5
        if self.samples[-1].seconds < 5 * round_seconds:
            return None
        second, last = self.samples[fifth : 2 * fifth], self.samples[-fifth:]
        high, base = (
            np.percentile([sample.total_mib for sample in part], MEMORY_PERCENTILE) for part in (last, second)
        )
        return float(high / base)

    def figures(self, round_seconds: float) -> dict[str, Any]:
        """Return the figures that `violated_limits` checks."""
        growth = self.memory_growth(round_seconds)
        return {
            "lost_workers": self.lost_workers(),
            "longest_gap_seconds": round(self.longest_gap_seconds(), 1),
            "memory_growth": growth and round(growth, 3),
        }


def violated_limits(figures: dict[str, Any]) -> list[str]:
    """Return a message for each violated limit of a monitored server.

    figures: of `ProcessMonitor.figures`, and "interrupted_connections", the number without a known cause.
    """
    growth = figures["memory_growth"]
    limits = {
        f"a worker was missing for {figures['longest_gap_seconds']} s": figures["longest_gap_seconds"]
        <= MAX_GAP_SECONDS,
        f"memory grew {growth} times": growth is None or growth <= MAX_MEMORY_GROWTH,
        f"{figures['interrupted_connections']} connections were interrupted": not figures["interrupted_connections"],
    }
    return [message for message, met in limits.items() if not met]


def describe(figures: dict[str, Any]) -> list[str]:
    """Return the figures as sentences for the report."""
    growth = figures["memory_growth"]
    growth_text = "not measured, the run is too short" if growth is None else f"{growth} times the second fifth"
    return [
        f"Workers ended: {figures['lost_workers']}. Longest time with a missing worker: "
        f"{figures['longest_gap_seconds']} s.",
        f"Memory of all processes in the last fifth of the time: {growth_text}.",
    ]


def take_sample(pid: int, seconds: float = 0.0) -> Sample:
    workers, sizes_mib = set(), {WORKER: [0.0], DECODER: [0.0], "": [0.0]}
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        processes = []
    for process in processes:
        try:
            command, mib, parent = process.cmdline(), process.memory_info().rss / 2**20, process.ppid()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        kind = next((kind for kind in (WORKER, DECODER) if kind in command), "")
        sizes_mib[kind].append(mib)
        # A child of a worker has the worker's command line until it runs its own program.
        if kind == WORKER and parent == pid:
            workers.add(process.pid)
    total = sum(map(sum, sizes_mib.values()))
    return Sample(seconds, frozenset(workers), max(sizes_mib[WORKER]), max(sizes_mib[DECODER]), total)
