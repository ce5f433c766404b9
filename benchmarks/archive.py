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
import contextlib
import heapq
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.archive_kills import count_rows, finish_archive, measure_kills, start_archive
from benchmarks.report import record, table
from service.archive.ray_data_job import files_per_task
from service.decoding.cine import open_cine
from service.inference.segmenter import Segmenter
from service.model.model_folder import model_folder
from service.rendering.image_encoding import encode_png
from service.resources.container_limits import cpu_cores
from training.data.sources import phantom

TITLE = "Archive on Ray"
FRAMES, KILLS, KILL_FRAMES = 20_000, 10, 2000
SIMULATED = 400  # different frames; the others are these with another brightness and a mark of their own
WARM_UP_FRAMES = 50
SAMPLE_SECONDS = 1.0
HEAD_PROCESSES = ("gcs_server", "raylet")
SIMULATED_NODES, CORES_PER_NODE, SIMULATED_ROUNDS = (1, 3, 10, 30, 100, 300), 16, 20


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


def measure_throughput(source: Path, out: Path, count: int) -> dict[str, Any]:
    """Run the command on this machine, and sample the memory of its processes."""
    in_process = frames_per_second_in_process(source, out.with_name("in_process"), min(count, 4000))
    process = start_archive(source, out)
    samples, driver_seconds = [], []
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        samples.append(_memory_mib(process.pid))
        driver_seconds.append(_ray_seconds(process.pid))
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
        "driver_ms_per_task": round(_busy_share(driver_seconds) * 1000 * task_seconds(figures), 1),
        "task_seconds": round(task_seconds(figures), 3),
        "files_per_task": files_per_task(cpu_cores()),
    }


def task_seconds(figures: dict[str, float]) -> float:
    """Return how long one core works on a task."""
    return cpu_cores() * files_per_task(cpu_cores()) / figures["Frames per second"]


def _busy_share(seconds: list[float]) -> float:
    """Return how much of a core the driver and Ray's head took for each task that a core works on."""
    middle = seconds[len(seconds) // 4 : -len(seconds) // 4]
    return (middle[-1] - middle[0]) / (len(middle) - 1) / SAMPLE_SECONDS / cpu_cores()


def _ray_seconds(driver: int) -> float:
    """Return the processor time of the driver and of Ray's control processes on the head."""
    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.pid == driver or process.info["name"] in HEAD_PROCESSES:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:2])
    return total


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


def efficiency(nodes: int, driver_seconds: float, file_seconds: float) -> float:
    """Simulate a cluster: one driver hands tasks to the cores of all nodes. Return the share of time that they work.

    driver_seconds: of the driver for each task, one after the other. file_seconds: of a core for a file.
    """
    cores = nodes * CORES_PER_NODE
    task_seconds = files_per_task(cores) * file_seconds
    free = [0.0] * cores  # when each core has finished
    driver, tasks = 0.0, SIMULATED_ROUNDS * cores
    for _ in range(tasks):
        driver = max(driver, heapq.heappop(free)) + driver_seconds
        heapq.heappush(free, driver + task_seconds)
    return tasks * task_seconds / (max(free) * cores)


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
    overhead, seconds = (
        throughput["driver_ms_per_task"] / 1000,
        throughput["task_seconds"] / throughput.get("files_per_task", 64),
    )
    simulated = [
        {
            "nodes": nodes,
            "files a task": files_per_task(nodes * CORES_PER_NODE),
            "efficiency": f"{efficiency(nodes, overhead, seconds):.2f}",
        }
        for nodes in SIMULATED_NODES
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
        f"Efficiency of a cluster with {CORES_PER_NODE} cores a node, simulated from what was measured here: a file "
        f"takes a core {1000 * seconds:.1f} ms, a task takes the driver and Ray's head {1000 * overhead:.1f} ms. The "
        "driver hands out one task after the other, so tasks grow with the cluster, up to a size: a lost node costs "
        "its tasks.",
        table(simulated),
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
