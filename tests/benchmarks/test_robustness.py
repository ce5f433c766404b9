"""Short runs of the robustness measurements: mutated uploads, a soak test with faults, a killed pipeline."""

import asyncio
from pathlib import Path

import psutil
import pytest

from benchmarks import process_monitor, soak, soak_run, upload_fuzz
from benchmarks.pipeline_kills import KilledPipeline
from benchmarks.process_monitor import ProcessMonitor, Sample
from benchmarks.soak_run import LOST, NEVER_ACCEPTED, WRONG, SoakRun, expected_masks, link_two_models
from benchmarks.upload_fuzz import Responses, send_mutants, summarize
from tests.conftest import patched, serving
from tests.project_copy import project_copy, toy

pytestmark = [pytest.mark.server, pytest.mark.serial]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_mutated_uploads_get_documented_responses_and_end_no_worker(model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(upload_fuzz, "FAILURES_FOLDER", tmp_path / "failures")
    with serving(model_folder, tmp_path) as server, ProcessMonitor(server.process.pid) as monitor:
        responses = asyncio.run(send_mutants(port_of(server.address), uploads=500, seed=1))
    assert upload_fuzz.violated_limits(summarize(responses, monitor)) == []
    assert responses.counts.total() == 500
    assert {"200", "400", "415", "422"} <= {status for _, status, _ in responses.counts}
    assert monitor.lost_workers() == 0


def test_an_upload_without_a_documented_response_is_stored(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(upload_fuzz, "FAILURES_FOLDER", tmp_path)
    responses = asyncio.run(send_mutants(port=1, uploads=3))  # no server listens there
    assert responses.undocumented.keys() == {path.name for path in tmp_path.iterdir()}
    descriptions = responses.undocumented.values()
    assert descriptions and all("ConnectionRefusedError" in description for description in descriptions)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_soak_test_counts_correct_and_wrong_masks_and_interruptions(model_folder, tmp_path, wrong) -> None:
    """With two killed workers and one exchanged champion, and with a wrong expected mask."""
    link = link_two_models(model_folder, tmp_path)
    requests = expected_masks(model_folder)
    if wrong:
        requests[0].mask_sha256 = requests[1].mask_sha256
    with serving(link, tmp_path) as server, ProcessMonitor(server.process.pid) as monitor:
        run = SoakRun(port_of(server.address), link, monitor, requests)
        asyncio.run(run.run(rate=20, seconds=10, fault_seconds=6))
        assert psutil.pid_exists(server.process.pid)
    assert len(run.kills) == 2
    assert len(run.exchanges) == 1
    assert monitor.lost_workers() == 2
    assert run.counts[LOST] == run.counts[NEVER_ACCEPTED] == 0
    assert run.counts["correct"] + run.counts[WRONG] == 190
    assert bool(run.counts[WRONG]) is wrong
    figures = run.figures(6)
    assert figures["interrupted_connections"] == 0
    violations = [message for message in soak.violated_limits(figures) if WRONG in message]
    assert violations == [f"{run.counts[WRONG]} wrong"] * wrong
    assert run.mutated_uploads.total() == 10


@pytest.mark.parametrize(
    ("patch", "outcome"),
    [
        (
            "from service.api.fair_concurrency_limiter import LIMITER\nLIMITER.requests.maximum = 0",
            NEVER_ACCEPTED,
        ),
        (
            "import os\nimport service.api.request_queue_timeout\n"
            "service.api.request_queue_timeout.LimitedRequest.run = lambda *_: os._exit(1)",
            LOST,
        ),
    ],
)
def test_the_soak_test_distinguishes_never_accepted_from_lost(
    model_folder, tmp_path, monkeypatch, patch, outcome
) -> None:
    """One server refuses every request. The other one ends after it has read the first request."""
    monkeypatch.setattr(soak_run, "MAX_ATTEMPTS", 2)
    with patched(patch, model_folder, tmp_path) as server, ProcessMonitor(server.process.pid) as monitor:
        run = SoakRun(port_of(server.address), tmp_path, monitor, expected_masks(model_folder))
        asyncio.run(run.send(1))
    assert [name for name in soak_run.OUTCOMES if run.counts[name]] == [outcome]
    figures = run.figures(60)
    assert ("1 lost" in soak.violated_limits(figures)) is (outcome == LOST)
    assert bool(run.interruptions) is (outcome == LOST)
    assert figures["interrupted_connections"] == len(run.interruptions)


def simulated_monitor(mib: list[float], workers: list[int]) -> ProcessMonitor:
    """Return a monitor with a sample every four seconds."""
    samples = [
        Sample(4.0 * index, frozenset(range(count)), size, 0.0, size)
        for index, (size, count) in enumerate(zip(mib, workers, strict=True))
    ]
    return ProcessMonitor(0, samples=samples)


GROWING_MIB = [100.0 + index for index in range(100)]


@pytest.mark.parametrize(
    ("mib", "workers", "interruptions", "message"),
    [
        ([100.0] * 100, [2] * 100, 0, None),
        (GROWING_MIB, [2] * 100, 0, "memory grew 1.43"),
        ([100.0] * 100, [2] * 50 + [1] * 3 + [2] * 47, 0, "a worker was missing for 12.0 s"),
        ([100.0] * 100, [2] * 100, 1, "1 connections were interrupted"),
    ],
)
def test_limits_of_memory_workers_and_connections(mib, workers, interruptions, message) -> None:
    monitor, responses = simulated_monitor(mib, workers), Responses()
    responses.counts["PNG", upload_fuzz.NO_RESPONSE if interruptions else "200", ""] = 1
    run = SoakRun(0, Path(), monitor, [], interruptions=[50.0] * interruptions)
    for violations in (
        upload_fuzz.violated_limits(summarize(responses, monitor)),
        soak.violated_limits(run.figures(19)),
    ):
        assert [violation.startswith(message) for violation in violations] == [True] if message else violations == []


def test_a_kill_explains_interruptions_of_the_next_second(tmp_path) -> None:
    monitor = simulated_monitor([100.0] * 9, [2] * 9)
    run = SoakRun(0, tmp_path, monitor, [], kills=[3.0], interruptions=[2.9, 3.1, 3.9, 4.1])
    assert run.figures(60)["interrupted_connections"] == 2
    assert run.figures(60)["interrupted_at_seconds"] == [2.9, 4.1]


def test_memory_growth_needs_a_round_of_faults_in_each_fifth_of_the_time() -> None:
    monitor = simulated_monitor(GROWING_MIB, [2] * 100)
    growth = monitor.memory_growth(79)
    assert growth is not None and growth > 1
    assert monitor.memory_growth(80) is None
    assert "the run is too short" in process_monitor.describe(monitor.figures(80))[1]


def test_a_pipeline_that_is_killed_twice_gives_the_results_of_an_uninterrupted_run(tmp_path: Path) -> None:
    pipeline = KilledPipeline(project_copy(tmp_path / "project", toy(epochs=1)), "split")
    expected_md5, seconds = pipeline.run_uninterrupted()
    assert expected_md5.keys() == {"data/frames", "data/split"}
    # The first run is the slowest, so both kills come before the end.
    assert pipeline.run_with_kills(expected_md5, set(expected_md5), [0.2 * seconds] * 2) == 2
    assert pipeline.errors == []
    assert pipeline.kills_by_stage.total() == 2


def test_changed_and_missing_outputs_are_errors(tmp_path: Path) -> None:
    pipeline = KilledPipeline(project_copy(tmp_path / "project", toy(epochs=1)), "ingest")
    pipeline.run_with_kills({"data/frames": "other MD5"}, {"data/frames", "data/split"}, [])
    assert pipeline.errors == ["data/frames has other content", "data/split is missing"]
