"""A server's processes, looked at while it is made to suffer: which workers there are, and the memory of all."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

GAP_SECONDS = 1.0  # that a lost worker may be missed
GROWTH = 1.05  # of memory, that is still flat

WORKER, DECODER = "_bentoml_impl.worker.service", "service.isolation"


@dataclass(frozen=True)
class Look:
    """At one moment, seconds from the start: workers by process id, and MiB resident of each process by its kind."""

    at: float
    workers: frozenset[int]
    worker_mib: float  # of the largest
    decoder_mib: float  # of the largest
    all_mib: float


@dataclass
class Watch:
    """Looks at the family of a process, from a thread, until it is left."""

    process: int
    every: float = 0.1  # seconds
    looks: list[Look] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._start, self._stop = time.perf_counter(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self.looks.append(look(self.process, time.perf_counter() - self._start))

    def lost_workers(self) -> int:
        """How many went away."""
        return len(frozenset().union(*(one.workers for one in self.looks)) - self.looks[-1].workers)

    def longest_gap(self) -> float:
        """Seconds for which, at the longest, fewer workers were there than at first."""
        full, since, longest = len(self.looks[0].workers), self.looks[0].at, 0.0
        for one in self.looks:
            if len(one.workers) >= full:
                since = one.at
            longest = max(longest, one.at - since)
        return longest

    def growth(self, round_seconds: float) -> float | None:
        """The memory of all in the last fifth of the time, by that in the second: what nine of ten looks find at most.

        Between is what follows a kill: decoders come back one by one, as load asks for them. None where a fifth is no
        whole round of what is done to the server: two of them are not alike then.
        """
        fifth = len(self.looks) // 5
        if self.looks[-1].at < 5 * round_seconds:
            return None
        second, last = self.looks[fifth : 2 * fifth], self.looks[-fifth:]
        high, base = (np.percentile([one.all_mib for one in part], 90) for part in (last, second))
        return float(high / base)

    def figures(self, round_seconds: float) -> dict[str, Any]:
        """What `broken` judges."""
        growth = self.growth(round_seconds)
        return {
            "lost_workers": self.lost_workers(),
            "longest_gap": round(self.longest_gap(), 1),
            "growth": growth and round(growth, 3),
        }


def broken(of: dict[str, Any]) -> list[str]:
    """Promises of a watched server that did not hold. cut: connections, for no reason that whoever measures gave."""
    promises = {
        f"a worker was missed for {of['longest_gap']} s": of["longest_gap"] <= GAP_SECONDS,
        f"memory grew {of['growth']} times": of["growth"] is None or of["growth"] <= GROWTH,
        f"{of['cut']} connections were cut": not of["cut"],
    }
    return [what for what, held in promises.items() if not held]


def told(of: dict[str, Any]) -> list[str]:
    """The same in words."""
    growth = "too short a run to tell" if of["growth"] is None else f"{of['growth']} times the second's"
    return [
        f"Workers lost: {of['lost_workers']}; longest time with one too few: {of['longest_gap']} s.",
        f"Memory of all processes in the last fifth of the time: {growth}.",
    ]


def look(process: int, at: float = 0.0) -> Look:
    workers, sizes = set(), {WORKER: [0.0], DECODER: [0.0], "": [0.0]}
    try:
        family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for one in family:
        try:
            line, mib, parent = one.cmdline(), one.memory_info().rss / 2**20, one.ppid()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        kind = next((kind for kind in (WORKER, DECODER) if kind in line), "")
        sizes[kind].append(mib)
        if kind == WORKER and parent == process:  # a child of a worker looks like it until it runs its own program
            workers.add(one.pid)
    total = sum(map(sum, sizes.values()))
    return Look(at, frozenset(workers), max(sizes[WORKER]), max(sizes[DECODER]), total)
