"""What keeps the service from returning masks: each worker looks for it each second, and tells the others.

Any worker may answer /readyz, so each one knows the problems of all. A worker whose event loop stands still tells
nothing; its row in the worker table no longer changes.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from service.api.worker_table import ROWS, WorkerRow, WorkerTable, supervisor_pid
from service.monitoring.prometheus_metrics import PROBLEM
from service.monitoring.refusal_summary import REFUSALS

log = logging.getLogger("bentoml.nervemask")

BEAT_SECONDS = 1.0
CHECK_SECONDS = 1.0
MAX_CHECK_SECONDS = 6.0  # a check that takes longer hangs
MAX_SILENT_BEATS = 5  # of this worker, while another one has none
# Each kind of problem, and whether the service is not ready while it lasts.
PROBLEM_KINDS = {
    "audit": True,  # no line can be written, so no mask is returned
    "keys": True,  # there is no valid API key
    "old_keys": False,  # the file of API keys is unreadable; the last keys stay valid
    "model": True,  # no model is served
    "old_model": False,  # another model than NERVEMASK_MODEL names is served
    "worker": True,  # a worker does not respond
    "checks": True,  # a check hangs, probably at a disk
}
Problem = tuple[str, str]  # its kind and a text for people
Check = Callable[[], Problem | None]


def causes_of_unreadiness(problems: dict[str, str]) -> list[str]:
    """Return the texts of the problems with which the service is not ready. problems: texts by kind."""
    return [text for kind, text in problems.items() if PROBLEM_KINDS[kind]]


class WorkerHealth:
    """The problems of this worker and of the others.

    A thread runs the checks, because a disk can hang. The event loop itself writes the row of this worker.
    """

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}
        self.model: Callable[[], str] = str
        self.problems: dict[str, str] = {}
        self.checks_began: float | None = None  # time.monotonic(); None between two rounds
        self.logged_causes: list[str] = []
        self.table: WorkerTable | None = None
        self.row = WorkerRow(os.getpid(), 0)
        self.others: dict[int, tuple[WorkerRow, int]] = {}  # by number: its last row, and for how many beats it is old

    def add_check(self, name: str, check: Check) -> None:
        """Add a check, or replace the one with this name. It returns a problem or None, and may take long."""
        self.checks[name] = check

    def start(self, number: int, model: Callable[[], str]) -> None:
        """Begin to check, and to write this worker's row. Call it in the event loop.

        number: of this worker. model: returns the name and version of the served model.
        """
        self.number, self.model, self.table = number, model, WorkerTable.open()
        self.row = WorkerRow(os.getpid(), 0)
        self.run_checks()
        threading.Thread(target=self._check_forever, daemon=True, name="checks").start()
        self.beats = asyncio.get_running_loop().create_task(self._beat_forever())

    def run_checks(self) -> None:
        """Run every check once, and write the summary of refusals if it is due."""
        self.checks_began = time.monotonic()
        found: dict[str, str] = {}
        for name, check in self.checks.items():
            try:
                problem = check()
            except Exception:
                log.exception("the check %r failed", name)
                problem = "checks", f"the check {name!r} failed"
            if problem:
                found[problem[0]] = problem[1]
        self.problems = found
        self._report(self.all_problems())
        REFUSALS.write_if_due()
        self.checks_began = None

    def _report(self, problems: dict[str, str]) -> None:
        """Set the gauges; log when the service becomes ready, or not ready for another reason."""
        for kind in PROBLEM_KINDS:
            PROBLEM.labels(kind).set(kind in problems)
        causes = causes_of_unreadiness(problems)
        if causes and causes != self.logged_causes:
            log.error("not ready: %s", "; ".join(causes))
        elif self.logged_causes and not causes:
            log.warning("ready again")
        self.logged_causes = causes

    def all_problems(self) -> dict[str, str]:
        """Return the problems of all workers by kind."""
        problems = dict(self.problems)
        for number, (row, silent_beats) in self.others.items():
            for kind, text in row.problems.items():
                problems.setdefault(kind, text)
            if silent_beats > MAX_SILENT_BEATS:
                problems["worker"] = f"worker {number} does not respond"
        began = self.checks_began
        if began is not None and time.monotonic() - began > MAX_CHECK_SECONDS:
            problems["checks"] = "a check does not end: a disk does not respond"
        return problems

    def _check_forever(self) -> None:
        pause = threading.Event()
        while not pause.wait(CHECK_SECONDS):
            self.run_checks()

    async def _beat_forever(self) -> None:
        supervisor = supervisor_pid()
        while True:
            self.beat()
            if supervisor not in (None, os.getppid()):  # without a supervisor nobody would end or replace this worker
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(BEAT_SECONDS)

    def beat(self) -> None:
        """Write this worker's row, and look at the others'."""
        if self.table is None:
            return
        self.row = replace(self.row, beats=self.row.beats + 1, model=self.model(), problems=self.problems)
        self.table.write(self.number, self.row)
        others: dict[int, tuple[WorkerRow, int]] = {}
        for number in range(1, ROWS + 1):
            row = self.table.read(number)
            if row is None or row.pid == self.row.pid or not row.is_alive:
                continue
            before, silent_beats = self.others.get(number, (None, 0))
            is_same = before is not None and (before.pid, before.beats) == (row.pid, row.beats)
            others[number] = row, silent_beats + 1 if is_same else 0
        self.others = others


HEALTH = WorkerHealth()
