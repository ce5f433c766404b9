"""A short run of the attacks without an API key. It judges memory and workers, not speed."""

import pytest

from benchmarks import hostile_clients
from benchmarks.hostile_connections import INPUTS
from benchmarks.process_monitor import ProcessMonitor

pytestmark = [pytest.mark.server, pytest.mark.serial]


def test_short_attacks_end_no_worker_and_cost_no_memory(model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_MODEL", str(model_folder))
    monkeypatch.setattr(hostile_clients, "QUIET_SECONDS", 3.0)
    with (
        hostile_clients.server_with_keys(tmp_path, None) as server,
        ProcessMonitor(server.process.pid, hostile_clients.SAMPLE_SECONDS) as monitor,
    ):
        figures = hostile_clients.attack(server, monitor, seconds=6, connections=200, recovery_seconds=6)
    figures |= {"memory_limit_gib": None, "audit_lines": 0}
    assert figures["lost_workers"] == 0
    assert figures["memory_peak_mib"] <= figures["memory_before_mib"] + 300
    assert set(figures["opened_connections"]) == set(INPUTS)
    assert all(row["requests"] for row in figures["livez"])
    assert "Workers ended: 0." in hostile_clients.to_markdown(figures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"lost_workers": 1}, "1 workers ended"),
        ({"killed_processes": 2}, "2 processes were ended by the memory limit"),
        ({"memory_after_mib": 530}, "the memory is 1.06 times what it was"),
        ({"livez": [{"part": "during", "p99_milliseconds": 150.0}]}, "/livez: p99 150.0 ms"),
    ],
)
def test_limits_of_an_attack(changes, message) -> None:
    figures = {
        "lost_workers": 0,
        "killed_processes": 0,
        "memory_before_mib": 500,
        "memory_after_mib": 520,
        "livez": [{"part": "during", "p99_milliseconds": 50.0}],
    }
    assert hostile_clients.violated_limits(figures | changes) == ([message] if message else [])
