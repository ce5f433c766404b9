"""The long measurements in short: mutated uploads, a soak with faults, a pipeline killed twice."""

import asyncio
from pathlib import Path

import psutil
import pytest

from benchmarks import hostile, nets, soak
from benchmarks.hostile import attack, figures
from benchmarks.kills import Disturbed
from benchmarks.soak import Soak, known, link_of_two
from benchmarks.uploads import Upload
from benchmarks.watch import Look, Watch
from tests.conftest import patched, serving
from tests.project import project_copy, toy

pytestmark = pytest.mark.alone


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_mutated_uploads_are_answered_as_documented_and_cost_no_worker(model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hostile, "KEPT", tmp_path / "kept")
    with serving(model_folder, tmp_path) as server, Watch(server.process.pid) as watch:
        found = asyncio.run(attack(port(server.address), uploads=500, seed=1))
    assert hostile.broken(figures(found, watch)) == []
    assert found.answers.total() == 500
    assert {"200", "400", "415", "422"} <= {status for _, status, _ in found.answers}
    assert watch.lost_workers() == 0


def test_an_upload_that_breaks_a_promise_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hostile, "KEPT", tmp_path)
    found = asyncio.run(attack(port=1, uploads=3))  # nobody listens there
    assert found.strange.keys() == {path.name for path in tmp_path.iterdir()}
    assert set(found.strange.values()) and all("ConnectionRefusedError" in told for told in found.strange.values())


@pytest.mark.parametrize("wrong", [False, True])
def test_a_soak_counts_what_is_right_wrong_and_cut(model_folder, tmp_path, wrong) -> None:
    """With one worker killed and one champion swapped; and with other masks than those that are expected."""
    link = link_of_two(model_folder, tmp_path)
    frames = known(model_folder)
    if wrong:
        frames[0].mask = frames[1].mask
    with serving(link, tmp_path) as server, Watch(server.process.pid) as watch:
        run = Soak(port(server.address), link, watch, frames)
        asyncio.run(run.run(rate=20, seconds=10, fault_seconds=6))
        assert psutil.pid_exists(server.process.pid)
    assert len(run.kills) == 2
    assert len(run.swaps) == 1
    assert watch.lost_workers() == 2
    assert run.counts["accepted and lost"] == run.counts["never accepted"] == 0
    assert run.counts["right"] + run.counts["wrong"] == 190
    assert bool(run.counts["wrong"]) is wrong
    of = run.figures(6)
    assert of["cut"] == 0
    assert [what for what in soak.broken(of) if "wrong" in what] == [f"{run.counts['wrong']} wrong"] * wrong
    assert run.hostile.total() == 10


@pytest.mark.parametrize(
    ("patch", "ends"),
    [
        ("import service.guard\nservice.guard.AT_ONCE = 0", "never accepted"),
        ("import os, service.guard\nservice.guard.Answer.give = lambda *_: os._exit(1)", "accepted and lost"),
    ],
)
def test_a_soak_tells_what_was_never_accepted_from_what_was_and_got_lost(
    model_folder, tmp_path, monkeypatch, patch, ends
) -> None:
    """Of a server that sends everybody away, and of one that ends over the first request it has read."""
    monkeypatch.setattr(soak, "TRIES", 2)
    with patched(patch, model_folder, tmp_path) as server, Watch(server.process.pid) as watch:
        run = Soak(port(server.address), tmp_path, watch, known(model_folder))
        asyncio.run(run.ask(1))
    assert [name for name in soak.REQUESTS if run.counts[name]] == [ends]
    of = run.figures(60)
    assert ("1 accepted and lost" in soak.broken(of)) is (ends == "accepted and lost")
    assert of["cut"] == (0 if ends == "never accepted" else len(run.cuts)) == len(run.cuts)


def watched(mib: list[float], workers: list[int]) -> Watch:
    """As if a server had been looked at every four seconds."""
    looks = [
        Look(4.0 * at, frozenset(range(count)), one, 0.0, one)
        for at, (one, count) in enumerate(zip(mib, workers, strict=True))
    ]
    return Watch(0, looks=looks)


@pytest.mark.parametrize(
    ("mib", "workers", "cut", "told"),
    [
        ([100.0] * 100, [2] * 100, 0, None),
        ([100.0 + at for at in range(100)], [2] * 100, 0, "memory grew 1.43"),
        ([100.0] * 100, [2] * 50 + [1] * 3 + [2] * 47, 0, "a worker was missed for 12.0 s"),
        ([100.0] * 100, [2] * 100, 1, "1 connections were cut"),
    ],
)
def test_memory_workers_and_connections_are_judged(mib, workers, cut, told) -> None:
    seen, found = watched(mib, workers), hostile.Answers()
    found.answers["PNG", "none" if cut else "200", ""] = 1
    run = Soak(0, Path(), seen, [], cuts=[50.0] * cut)
    for broken in (hostile.broken(figures(found, seen)), soak.broken(run.figures(19))):
        assert [what.startswith(told) for what in broken] == [True] if told else broken == []


def test_a_cut_is_explained_by_a_kill_just_before(tmp_path) -> None:
    run = Soak(0, tmp_path, watched([100.0] * 9, [2] * 9), [], kills=[3.0], cuts=[2.9, 3.1, 3.9, 4.1])
    assert run.figures(60)["cut"] == 2


def test_of_a_run_without_two_whole_rounds_no_growth_is_told() -> None:
    growing = watched([100.0 + at for at in range(100)], [2] * 100)
    assert growing.growth(80) is None and growing.growth(79) > 1


def test_model_folders_are_asked_in_turns_and_held_against_the_first(
    model_folder, same_frame, monkeypatch, capsys
) -> None:
    png = Upload("PNG", "image/png", [same_frame["8-bit PNG"]])
    monkeypatch.setattr(nets, "uploads", lambda: [png])
    monkeypatch.setattr(nets, "ROUNDS", 1)
    nets.main([str(model_folder), f"{model_folder}/."])
    of_each = [row for row in capsys.readouterr().out.splitlines() if " ms " in row]
    assert [row.startswith(f"| {model_folder}") for row in of_each] == [True, True]
    assert of_each[0].endswith("| 1.00 |")


def test_a_pipeline_killed_twice_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    disturbed = Disturbed(project_copy(tmp_path / "project", toy(epochs=1)), "split")
    expected, seconds = disturbed.undisturbed()
    assert expected.keys() == {"data/frames", "data/split"}
    assert disturbed.disturbed(expected, set(expected), [0.2 * seconds] * 2) == 2  # the first run is the slowest
    assert disturbed.wrong == []
    assert disturbed.killed.total() == 2


def test_another_result_and_a_missing_one_are_told(tmp_path: Path) -> None:
    disturbed = Disturbed(project_copy(tmp_path / "project", toy(epochs=1)), "ingest")
    disturbed.disturbed({"data/frames": "another"}, {"data/frames", "data/split"}, [])
    assert disturbed.wrong == ["data/frames is another", "data/split is missing"]
