"""What the supervisor does for its workers beyond BentoML and circus: it replaces a worker that hangs.

A worker that has begun to serve writes its row of the worker table each second. If the row stays the same for
MAX_SILENT_CHECKS checks of the supervisor, the worker's event loop stands still, and the worker is killed; circus then
starts another one. Checks count, not seconds: after a pause of the whole container no worker seems silent. A worker
that still loads its model has no row and is left alone.
"""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from service.api.server_patches import WORKER_CHECK_SECONDS
from service.api.worker_table import WorkerTable, supervisor_pid

log = logging.getLogger("bentoml.nervemask")

MAX_SILENT_CHECKS = round(15 / WORKER_CHECK_SECONDS)
PR_SET_PDEATHSIG = 1  # of prctl(2)


class SilentWorkers:
    """Counts for how many checks the row of each worker has stayed the same."""

    def __init__(self, table: WorkerTable):
        self.table = table
        self.counts: dict[int, tuple[int, int]] = {}  # by process id: beats, and checks without another one

    def find(self, workers: Iterable[Any]) -> list[Any]:
        """Return the workers that hang. workers: circus' processes."""
        counts = {}
        for worker in workers:
            row = self.table.read(worker.wid)
            if row is None or row.pid != worker.pid:
                continue
            beats, checks = self.counts.get(row.pid, (-1, 0))
            counts[row.pid] = row.beats, checks + 1 if row.beats == beats else 0
        self.counts = counts
        return [worker for worker in workers if counts.get(worker.pid, (0, 0))[1] >= MAX_SILENT_CHECKS]


def replace_silent_workers() -> None:
    """Let the supervisor kill a worker that hangs.

    Reason: circus replaces only a worker that has ended.
    Made for: BentoML 1.4.39 with kantoku 0.18.3 (its copy of circus).
    Unnecessary when: circus has a check of its own that a worker responds.
    """
    from bentoml._internal.utils import circus  # it would slow the start of a worker, which does not need it

    silent_workers = SilentWorkers(WorkerTable.create())

    class Arbiter(circus.Arbiter):
        def manage_watchers(self) -> Any:
            if not self._stopping:
                workers = [process for watcher in self.iter_watchers() for process in watcher.processes.values()]
                for worker in silent_workers.find(workers):
                    seconds = MAX_SILENT_CHECKS * WORKER_CHECK_SECONDS
                    log.critical("worker %d does not respond for %.0f seconds: it is replaced", worker.pid, seconds)
                    worker.send_signal(signal.SIGKILL)
            return super().manage_watchers()

    circus.Arbiter = Arbiter  # type: ignore[misc]


def end_with_supervisor() -> None:
    """Get SIGTERM when the supervisor ends for any reason: else a worker would keep the port, and nobody replaces it.

    Linux sends the signal when the supervisor's thread ends that started this worker: its main thread. Elsewhere
    `WorkerHealth` compares the parent's process id. The decoder processes end with their worker, whose end closes
    their sockets. They may not use this signal: a worker's threads start them, and end earlier.
    """
    supervisor = supervisor_pid()
    if supervisor is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)
