"""Segment an archive with Ray: throughput, memory of the driver, killed nodes and killed drivers.

`python -m benchmarks.archive --frames 20000 --kills 10` writes benchmarks/archive.md:

- throughput of `python -m service.archive` on this machine, and of the same files in one process with a thread for
  each core, from file to PNG;
- memory of the driver and of the largest actor, over the run;
- on a cluster of a head and two worker nodes on this machine, one worker node is killed after a random number of
  files, and then the driver, as often: each frame must have one row and the same bytes as after a run that nothing
  disturbs.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from pyarrow import parquet

from benchmarks.report import record, table
from service.decoding.cine import open_cine
from service.inference.segmenter import Segmenter
from service.model.model_folder import model_folder
from service.rendering.image_encoding import encode_png
from service.resources.machine import cpu_cores
from training.data.sources import phantom

TITLE = "Archive on Ray"
FRAMES, KILLS, KILL_FRAMES = 20_000, 10, 2000
SIMULATED = 400  # different frames; the others are these with another brightness and a mark of their own
WARM_UP_FRAMES = 50
SAMPLE_SECONDS = 1.0
DONE_BEFORE = "Frames done before, or twice in the sources"
FIGURES = re.compile(rf"^ *(Frames segmented|{DONE_BEFORE}|Failures|Frames per second) +([0-9.]+)", re.MULTILINE)


def write_frames(folder: Path, count: int) -> None:
    """Write `count` different frames as PNG, 100 in each folder."""
    pairs = islice(phantom.simulate_pairs(SIMULATED // 10, 10, seed=3), min(count, SIMULATED))
    simulated = [np.array(cv2.imdecode(np.frombuffer(pair.frame_file, np.uint8), 0)) for pair in pairs]
    for number in range(count):
        frame = simulated[number % len(simulated)].copy()
        frame = cv2.convertScaleAbs(frame, alpha=1 - number // SIMULATED / 200)
        frame[0, :3] = number % 256, number // 256 % 256, number // 65536
        path = folder / f"{number // 100:04d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", frame)[1].tobytes())


def frames_per_second_in_process(source: Path, out: Path, count: int) -> float:
    """Segment frames in this process, with a thread for each core, from file to PNG."""
    segmenter = Segmenter(model_folder())
    out.mkdir()

    def segment(path: Path) -> None:
        with path.open("rb") as file:
            result = segmenter.segment_cine_frame(open_cine(file), 0)
        (out / path.name).write_bytes(encode_png(result.segmentation.mask))

    cv2.setNumThreads(1)
    paths = list(islice(sorted(source.rglob("*.png")), count))
    with ThreadPoolExecutor(cpu_cores()) as pool:
        list(pool.map(segment, paths[:WARM_UP_FRAMES]))
        start = time.perf_counter()
        list(pool.map(segment, paths))
        return len(paths) / (time.perf_counter() - start)


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


def measure_throughput(source: Path, out: Path, count: int) -> dict[str, Any]:
    """Run the command on this machine, and sample the memory of its processes."""
    in_process = frames_per_second_in_process(source, out.with_name("in_process"), min(count, 4000))
    process = start_archive(source, out)
    samples = []
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        samples.append(_memory_mib(process.pid))
    figures = finish_archive(process)
    running = samples[len(samples) // 4 : -max(1, len(samples) // 10)] or samples[:1]
    quarter = -(-len(running) // 4)
    first, last = np.median(running[:quarter], axis=0), np.median(running[-quarter:], axis=0)
    return {
        "frames": count,
        "in_process_per_second": round(in_process, 1),
        "archive_per_second": figures["Frames per second"],
        "share": round(figures["Frames per second"] / in_process, 3),
        "driver_mib": [round(float(value), 1) for value in (first[0], last[0])],
        "largest_actor_mib": [round(float(value), 1) for value in (first[1], last[1])],
        "frames_stored": count_rows(out),
    }


def _memory_mib(driver: int) -> tuple[float, float]:
    """Return the resident memory of the driver and of the largest actor, without shared pages."""
    actors = [0.0]
    for process in psutil.process_iter(["name"]):
        if process.info["name"].startswith("ray::MapW"):
            actors.append(_own_mib(process))
    return _own_mib(psutil.Process(driver)), max(actors)


def _own_mib(process: psutil.Process) -> float:
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return float(memory.rss - memory.shared) / 2**20


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


def measure(frames: int, kills: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_frames(folder / "source", frames)
        throughput = measure_throughput(folder / "source", folder / "out", frames)
        write_frames(folder / "killed", min(KILL_FRAMES, frames))
        return {"throughput": throughput, "kills": measure_kills(folder / "killed", folder, kills)}


def to_markdown(figures: dict[str, Any]) -> str:
    throughput, kills = figures["throughput"], figures["kills"]
    rows = [
        {
            "frames": throughput["frames"],
            "in process, per second": throughput["in_process_per_second"],
            "archive, per second": throughput["archive_per_second"],
            "share": throughput["share"],
            "driver, MiB": "{} to {}".format(*throughput["driver_mib"]),
            "largest actor, MiB": "{} to {}".format(*throughput["largest_actor_mib"]),
        }
    ]
    lines = [
        table(rows),
        "The archive's time includes the start of the actors and the table. In process: a thread for each core. "
        "Memory: resident and not shared, median of the first and of the last quarter of the run.",
        f"{kills['kills']} times one of two worker nodes was killed after a random number of files of a run over "
        f"{kills['frames']} frames, and {kills['kills']} times the driver, which was then started again (it found "
        f"{min(kills['done_before'], default=0)} to {max(kills['done_before'], default=0)} frames done).",
        f"Frames without their one row, and masks that differ from an undisturbed run: "
        f"{'; '.join(kills['errors']) or 'none'}.",
    ]
    return "\n\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=TITLE)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the measured run (%(default)s)")
    parser.add_argument("--kills", type=int, default=KILLS, help="of nodes, and of drivers (%(default)s)")
    arguments = parser.parse_args()
    figures = record("archive", lambda: measure(arguments.frames, arguments.kills), "archive")
    sys.exit("; ".join(figures["kills"]["errors"]) or 0)


if __name__ == "__main__":
    main()
