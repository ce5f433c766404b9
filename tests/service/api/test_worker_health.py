"""Each worker knows the problems of all workers, also those of one that hangs. The supervisor finds that one too."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from service.api import worker_health, worker_supervision
from service.api.readiness import ReadinessMiddleware
from service.api.worker_health import MAX_SILENT_BEATS, PROBLEM_KINDS, WorkerHealth
from service.api.worker_supervision import MAX_SILENT_CHECKS, SilentWorkers
from service.api.worker_table import ROWS, TABLE_BYTES, VARIABLE, WorkerRow, WorkerTable

ROOT = Path(__file__).parents[3]


@pytest.fixture
def table(monkeypatch) -> WorkerTable:
    monkeypatch.setenv(VARIABLE, "")
    return WorkerTable.open()


@pytest.fixture
def health(table: WorkerTable) -> WorkerHealth:
    """Worker 1, in this process, without its thread and its task."""
    health = WorkerHealth()
    health.number, health.table = 1, table
    return health


@pytest.fixture
def other_worker():
    """A process beside this one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def get_readiness(health: WorkerHealth) -> httpx.Response:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(ReadinessMiddleware(PlainTextResponse("other"), health))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            assert (await client.get("/livez")).text == "other"
            return await client.get("/readyz")

    return asyncio.run(get())


# The table


def test_processes_share_the_table(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    table = WorkerTable.create()
    row = WorkerRow(12, 34, "nerve-unet 7", {"audit": "the disk is füll"})
    table.write(2, row)
    code = "from service.api.worker_table import *; t = WorkerTable.open(); t.write(1, t.read(2))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, close_fds=False)
    assert table.read(1) == row
    assert table.read(3) is None


def test_a_row_holds_every_problem_with_a_long_text(table) -> None:
    problems = dict.fromkeys(PROBLEM_KINDS, "😀" * 10_000)
    for number in range(1, ROWS + 1):
        table.write(number, WorkerRow(number, 1, "m" * 10_000, problems))
    for number in range(1, ROWS + 1):
        row = table.read(number)
        assert row and row.pid == number and row.problems.keys() == problems.keys()
    assert len(table.memory) == TABLE_BYTES


# A worker


def test_a_problem_of_another_worker_is_a_problem_of_the_service(health, table, other_worker) -> None:
    health.beat()
    assert get_readiness(health).text == "ready: \n"
    table.write(2, WorkerRow(other_worker.pid, 1, "", {"keys": "there is no key", "old_model": "it is old"}))
    health.beat()
    response = get_readiness(health)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")
    assert response.json()["error"]["message"] == "The service is not ready: there is no key."
    table.write(2, WorkerRow(other_worker.pid, 2, "", {"old_model": "it is old"}))
    health.beat()
    assert get_readiness(health).text == "ready: \nwarning: it is old\n"


def test_a_worker_that_hangs_makes_the_service_not_ready_until_it_ends(health, table, other_worker) -> None:
    table.write(2, WorkerRow(other_worker.pid, 1))
    for _ in range(MAX_SILENT_BEATS + 1):
        health.beat()
        assert get_readiness(health).status_code == 200
    health.beat()
    assert "worker 2 does not respond" in get_readiness(health).text
    other_worker.kill()
    other_worker.wait()
    health.beat()
    assert get_readiness(health).status_code == 200


def test_a_check_that_fails_or_hangs_is_a_problem(health, monkeypatch, caplog) -> None:
    health.add_check("disk", lambda: 1 / 0)
    health.run_checks()
    assert "the check 'disk' failed" in get_readiness(health).text
    assert "ZeroDivisionError" in caplog.text
    health.add_check("disk", lambda: None)
    health.run_checks()
    assert get_readiness(health).status_code == 200
    monkeypatch.setattr(worker_health, "MAX_CHECK_SECONDS", -1.0)
    during_check = []
    health.add_check("disk", lambda: during_check.append(get_readiness(health).text))
    health.run_checks()
    assert "a check does not end" in during_check[0]


# The supervisor


@dataclass
class CircusProcess:
    """What the supervisor knows of a worker."""

    wid: int
    pid: int = os.getpid()


def test_the_supervisor_finds_a_worker_that_hangs_and_no_other(table) -> None:
    silent_workers = SilentWorkers(table)
    hanging, working, loading = (CircusProcess(number, 1000 + number) for number in (1, 2, 3))
    table.write(1, WorkerRow(hanging.pid, 7))
    table.write(3, WorkerRow(999, 7))  # of the worker that `loading` replaces
    row = WorkerRow(working.pid, 0)
    for check in range(MAX_SILENT_CHECKS + 1):
        row = replace(row, beats=row.beats + check % 2)
        table.write(2, row)
        found = silent_workers.find([hanging, working, loading])
        assert found == ([hanging] if check == MAX_SILENT_CHECKS else [])


def test_circus_needs_the_patch_because_it_replaces_no_worker_that_hangs() -> None:
    from circus.watcher import Watcher

    assert not [name for name in Watcher.__init__.__code__.co_varnames if "heartbeat" in name or "health" in name]


def test_the_supervisor_creates_the_table_for_its_workers(monkeypatch) -> None:
    from bentoml._internal.utils import circus

    monkeypatch.setattr(circus, "Arbiter", circus.Arbiter)
    monkeypatch.setenv(VARIABLE, "")
    worker_supervision.replace_silent_workers()
    assert os.environ[VARIABLE].split()[0] == str(os.getpid())
