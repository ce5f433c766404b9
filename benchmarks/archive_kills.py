"""Run the archive command on a Ray cluster on this machine, and kill its nodes and its driver."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import parquet

DONE_BEFORE = "Frames already done, or duplicates"
FIGURES = re.compile(rf"^ *(Frames segmented|{DONE_BEFORE}|Failures|Frames per second) +([0-9.]+)", re.MULTILINE)


def start_archive(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.archive", str(source), "--out", str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def finish_archive(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return the figures of the closing table. Raises RuntimeError if a frame failed."""
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the archive command ended with status {process.returncode}: {printed}")
    return {name: float(value) for name, value in FIGURES.findall(printed)}


def count_rows(out: Path) -> int:
    """Return the number of different frames in the table. Raises RuntimeError if one has two rows."""
    rows = parquet.read_table(sorted((out / "frames").rglob("part-*.parquet")), columns=["digest", "frame"])
    different = len(set(zip(*(column.to_pylist() for column in rows.columns), strict=True)))
    if different != rows.num_rows:
        raise RuntimeError(f"{rows.num_rows - different} rows of the table are of the same frame as another")
    return different


def measure_kills(source: Path, folder: Path, kills: int) -> dict[str, Any]:
    """Kill a worker node, and then the driver, `kills` times each; compare what was written."""
    rng = random.Random(0)
    errors: list[str] = []
    done_before = []
    with running_cluster() as cluster:
        finish_archive(start_archive(source, folder / "undisturbed", "--ray", cluster.address))
        expected = read_masks(folder / "undisturbed")
        for number in range(kills):
            out = folder / f"node{number}"
            process = start_archive(source, out, "--ray", cluster.address)
            wait_for_records(out, rng.uniform(0.05, 0.9) * len(expected), process)
            cluster.remove_node(rng.choice(list(cluster.worker_nodes)), allow_graceful=False)
            finish_archive(process)
            errors += compare(f"node {number}", out, expected)
            cluster.add_node(num_cpus=1)
        for number in range(kills):
            out = folder / f"driver{number}"
            process = start_archive(source, out, "--ray", cluster.address)
            wait_for_records(out, rng.uniform(0.05, 0.9) * len(expected), process)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            figures = finish_archive(start_archive(source, out, "--ray", cluster.address))
            done_before.append(int(figures[DONE_BEFORE]))
            errors += compare(f"driver {number}", out, expected)
    return {"kills": kills, "frames": len(expected), "done_before": done_before, "errors": errors}


def wait_for_records(out: Path, count: float, process: subprocess.Popen[str]) -> None:
    """Wait until the records of so many files are written. Raises RuntimeError if the command ends before."""
    while sum(1 for _ in (out / "records").rglob("*.jsonl")) < count:
        if process.poll() is not None:
            raise RuntimeError("the archive command ended before it was disturbed")
        time.sleep(0.1)


@contextmanager
def running_cluster() -> Iterator[Any]:
    """Run a head without cores and two worker nodes with a core each. `worker_nodes` has the nodes that run."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def read_masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "mask").rglob("*.png")}


def compare(name: str, out: Path, expected: dict[str, bytes]) -> list[str]:
    """Return what differs from the undisturbed run."""
    masks = read_masks(out)
    different = sum(masks.get(key) != value for key, value in expected.items()) + len(masks.keys() - expected.keys())
    errors = [f"{name}: {different} masks are missing or differ"] if different else []
    if (rows := count_rows(out)) != len(expected):
        errors.append(f"{name}: {rows} rows for {len(expected)} frames")
    return errors
