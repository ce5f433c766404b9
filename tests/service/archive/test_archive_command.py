"""`python -m service.archive` on a real Ray cluster of a head and two worker nodes on this machine."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from service.model.card import Card
from tests import frames

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]
FILES = 300


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(FILES):
        (folder / f"{seed:04d}.png").write_bytes(frames.png(frames.speckle(seed, 60, 80)))
    return folder


def start(model: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.archive", *map(str, arguments)]
    variables = os.environ | {"NERVEMASK_MODEL": str(model), "COLUMNS": "120"} | environment
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(*arguments: Any, status: int = 0, **environment: str) -> str:
    """Run the command; return what it prints."""
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == status, stderr
    return stdout + stderr


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "mask").rglob("*.png")}


def table_rows(out: Path) -> list[dict[str, Any]]:
    return parquet.read_table(sorted((out / "frames").rglob("part-*.parquet"))).to_pylist()


def wait_for_records(out: Path, count: int) -> None:
    end = time.monotonic() + 120
    while len(list((out / "records").rglob("*.jsonl"))) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(cluster, pictures, model_folder, tmp_path_factory) -> Path:
    """The output of a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    printed = run(model_folder, pictures, "--out", out, "--ray", cluster.address)
    assert re.search(rf"Frames segmented +{FILES}\b", printed), printed
    return out


def test_every_frame_is_segmented_once(undisturbed, pictures) -> None:
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures.iterdir())
    assert sorted(row["digest"] for row in table_rows(undisturbed)) == digests
    assert sorted(masks(undisturbed)) == [f"{digest}.png" for digest in digests]


def test_a_killed_node_costs_nothing_but_time(cluster, undisturbed, pictures, model_folder, tmp_path) -> None:
    node = cluster.add_node(num_cpus=1)
    process = start(model_folder, pictures, "--out", tmp_path, "--ray", cluster.address)
    wait_for_records(tmp_path, FILES // 4)
    assert process.poll() is None
    cluster.remove_node(node, allow_graceful=False)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stdout + stderr
    assert masks(tmp_path) == masks(undisturbed)
    assert len(table_rows(tmp_path)) == FILES


def test_a_killed_driver_goes_on_where_it_was(cluster, undisturbed, pictures, model_folder, tmp_path) -> None:
    process = start(model_folder, pictures, "--out", tmp_path, "--ray", cluster.address)
    wait_for_records(tmp_path, FILES // 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    printed = run(model_folder, pictures, "--out", tmp_path, "--ray", cluster.address)
    done = re.search(r"Frames already done, or duplicates +(\d+)", printed)
    assert done and FILES // 4 <= int(done[1]) <= FILES
    assert masks(tmp_path) == masks(undisturbed)
    assert len(table_rows(tmp_path)) == FILES


def test_two_runs_at_once_share_the_output(cluster, undisturbed, pictures, model_folder, tmp_path) -> None:
    runs = [start(model_folder, pictures, "--out", tmp_path, "--ray", cluster.address) for _ in range(2)]
    for process in runs:
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stdout + stderr
    assert masks(tmp_path) == masks(undisturbed)
    assert len(table_rows(tmp_path)) == FILES
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path.suffix != ".lock"]


def test_without_an_address_ray_starts_on_this_machine(source, model_folder, tmp_path) -> None:
    printed = run(model_folder, source, "--out", tmp_path / "out", status=1, RAY_ADDRESS="")
    assert "damaged.png: frame 0: " in printed
    assert re.search(r"Files that are not ultrasound +1\b", printed)
    errors = [row["error"] for row in table_rows(tmp_path / "out")]
    assert sorted(map(str, errors)) == ["None"] * 5 + ["malformed"]


def test_what_cannot_run_is_said_in_one_line(source, model_folder, tmp_path) -> None:
    def message(*arguments: str | Path, model: Path = model_folder) -> str:
        (line,) = run(model, *arguments, status=2).splitlines()
        return line

    assert "missing does not exist" in message(source / "missing", "--out", tmp_path / "out")
    assert "is missing" in message(source, "--out", tmp_path / "out", model=tmp_path / "no model")
    (tmp_path / "file").write_text("")
    assert "File exists" in message(source, "--out", tmp_path / "file")
    assert "no Ray cluster answers at 127.0.0.1:9" in message(source, "--out", tmp_path / "out", "--ray", "127.0.0.1:9")


def test_a_model_that_fails_its_self_test_is_not_used(source, model_folder, tmp_path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    card["self_test_presence"]["float32"] = [0.1, 0.1, 0.1]
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    Card.read(tmp_path / "model")
    printed = run(tmp_path / "model", source, "--out", tmp_path / "out", status=2)
    assert "fails its self-test" in printed
    assert "Traceback" not in printed
