"""The long measurements in short: mutated uploads, a soak with faults, a pipeline killed twice."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks import hostile
from benchmarks.hostile import attack, broken, figures
from benchmarks.kills import Disturbed
from benchmarks.load import request
from benchmarks.soak import Known, Soak, known, link_of_two
from benchmarks.watch import Watch
from tests.conftest import serving
from tests.project import project_copy, toy


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_mutated_uploads_are_answered_as_documented_and_cost_no_worker(model_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hostile, "KEPT", tmp_path / "kept")
    with serving(model_folder, tmp_path) as server, Watch(server.process.pid) as watch:
        found = asyncio.run(attack(port(server.address), uploads=500, seed=1))
    assert broken(figures(found, watch)) == []
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
        soak = Soak(port(server.address), link, watch, frames)
        asyncio.run(soak.run(rate=20, seconds=10, fault_seconds=6))
        assert psutil.pid_exists(server.process.pid)
    assert len(soak.kills) == 2
    assert len(soak.swaps) == 1
    assert watch.lost_workers() == 2
    assert soak.counts["lost"] == soak.counts["given up"] == 0
    assert soak.counts["right"] + soak.counts["wrong"] == 190
    assert bool(soak.counts["wrong"]) is wrong
    assert bool(soak.broken()) is wrong
    assert soak.hostile.total() == 10


def test_a_soak_tells_what_was_accepted_and_lost_from_what_never_was(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.soak.TRIES", 2)

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, busy: bool) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if busy:
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def asked(busy: bool) -> Counter[str]:
        server = await asyncio.start_server(lambda *pair: answered(*pair, busy), "127.0.0.1", 0)
        with Watch(os.getpid()) as watch:
            soak = Soak(
                server.sockets[0].getsockname()[1], tmp_path, watch, [Known(request("/mask", "image/png", b""), "")]
            )
            await soak._ask(1, 0.0)
        server.close()
        return soak.counts

    assert asyncio.run(asked(busy=True)) == {"sent away": 2, "given up": 1}
    assert asyncio.run(asked(busy=False)) == {"cut": 2, "lost": 1}


def test_a_pipeline_killed_twice_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    disturbed = Disturbed(project_copy(tmp_path / "project", toy(epochs=1)), "split")
    expected, seconds = disturbed.undisturbed()
    assert expected.keys() == {"data/frames", "data/split"}
    assert disturbed.disturbed(expected, set(expected), [0.3 * seconds, 0.6 * seconds]) == 2
    assert disturbed.wrong == []
    assert disturbed.killed.total() == 2


def test_another_result_and_a_missing_one_are_told(tmp_path: Path) -> None:
    disturbed = Disturbed(project_copy(tmp_path / "project", toy(epochs=1)), "ingest")
    disturbed.disturbed({"data/frames": "another"}, {"data/frames", "data/split"}, [])
    assert disturbed.wrong == ["data/frames is another", "data/split is missing"]
