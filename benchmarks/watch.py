"""A server's processes, looked at while it is made to suffer: which workers there are, and the memory of all."""

import threading
import time
from dataclasses import dataclass, field

import psutil

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
