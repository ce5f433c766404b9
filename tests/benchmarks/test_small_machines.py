"""Short runs of the largest files against small machines, and of a greedy client beside another client."""

import pytest

from benchmarks import fairness, memory_limits
from benchmarks.cgroup import can_limit_memory

pytestmark = [pytest.mark.server, pytest.mark.serial]


@pytest.fixture
def served_model(model_folder, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_MODEL", str(model_folder))


@pytest.mark.skipif(not can_limit_memory(), reason="this process may not make control groups with a memory limit")
def test_no_process_is_ended_by_the_memory_limit(served_model, monkeypatch) -> None:
    """With smaller files than `make soak` sends: the largest take minutes."""
    monkeypatch.setattr(memory_limits, "SIDE_PX", 512)
    monkeypatch.setattr(memory_limits, "CINE_SIDE_PX", 512)
    monkeypatch.setattr(memory_limits, "MAX_CINE_FRAMES", 4)
    row = memory_limits.measure_machine(4, 2 * 2**30, seconds=2)
    assert memory_limits.violated_limits([row]) == []
    assert 0 < row["peak_mib"] < 2048
    assert set(row["alone"].values()) == {"200"}
    assert row["alone"].keys() == row["together"].keys()
    assert "| 4 " in memory_limits.to_markdown([row])


def test_the_report_names_what_a_small_machine_must_not_do() -> None:
    row = {"cores": 1, "memory_gib": 2.0, "together": {"PNG": {"200": 1, "400": 1}}, "alone": {"PNG": "500"}}
    figures = {"peak_mib": 9, "killed_processes": 1, "lost_workers": 2}
    assert memory_limits.violated_limits([row | figures]) == [
        "1 cores, 2.0 GiB: 1 processes were ended",
        "1 cores, 2.0 GiB: 2 workers were lost",
        "1 cores, 2.0 GiB: other responses: ['400', '500']",
    ]


def test_a_greedy_client_causes_no_refusal_of_another(served_model) -> None:
    """How much slower the other client becomes depends on the machine: `make soak` measures it."""
    figures = fairness.measure(rounds=1, seconds=3)
    (row,) = figures["rounds"]
    assert row["loaded"]["refused"] == row["quiet"]["refused"] == {}
    assert row["greedy"]["statuses"].keys() >= {"200", "429"}
    assert "p95" in fairness.to_markdown(figures)


def test_the_report_names_a_refusal_and_a_slowdown_of_the_other_client() -> None:
    quiet, loaded = {"p95_ms": 10.0, "refused": {}}, {"p95_ms": 25.0, "refused": {"429": 2}}
    assert fairness.violated_limits({"rounds": [{"quiet": quiet, "loaded": loaded}]}) == [
        "the other client was refused: {'429': 2}",
        "the other client's 95th percentile is 2.50 times its quiet value",
    ]
