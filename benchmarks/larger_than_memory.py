"""Prepare and train on a data set that is larger than memory, beside one that fits.

`python -m benchmarks.larger_than_memory [--frames N]`. The candidate's preparation and one epoch over all frames run in
a process with a memory limit of MEMORY_GIB, which counts the file cache too. A tenth as many frames validate. The
frames are those of the test split, repeated: each is decoded again.
"""

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.cgroup import can_limit_memory, limit_memory
from benchmarks.process_monitor import repeated
from benchmarks.report import record, table

TITLE = "A data set that is larger than memory"
CANDIDATE = "light"
FRAMES, SMALL = 100_000, 1_000
VALIDATION_SHARE = 0.1
MEMORY_GIB = 4
WARM_UP_STEPS = 20  # the first step builds the graph
SAMPLE_SECONDS = 0.5


def measure(frames: int) -> list[dict[str, Any]]:
    if not can_limit_memory():
        sys.exit("larger_than_memory: this process may not make control groups. Run it as root, outside a container.")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        return [_measure_process(count, Path(folder) / str(count)) for count in (SMALL, frames)]


def to_markdown(rows: list[dict[str, Any]]) -> str:
    return (
        f"`{CANDIDATE}`, one epoch over all frames, with at most {MEMORY_GIB} GiB of memory, the file cache included. "
        "Memory is what the process itself takes: its pages that are not of a file.\n\n" + table(rows)
    )


def _measure_process(frames: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.larger_than_memory", "--frames", str(frames), "--in", str(folder)]
    with limit_memory(MEMORY_GIB * 2**30) as group:
        script = f"echo $$ > {group.folder}/cgroup.procs && exec {shlex.join(command)}"
        process = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        if process.returncode:
            limit = f"; the limit of {MEMORY_GIB} GiB ended it" if group.killed_processes() else ""
            sys.exit(f"larger_than_memory: {frames} frames failed{limit}")
    return json.loads(process.stdout.splitlines()[-1])


def measure_in_this_process(frames: int, folder: Path) -> dict[str, Any]:
    """Prepare `frames` training frames in `folder` and train on them. Return the figures."""
    from training.data.prepared_arrays import read_split_arrays, write_prepared_arrays
    from training.data.split_table import rows_of_split
    from training.workspace import nerve_parameters

    candidate = nerve_parameters.read_candidate(CANDIDATE)
    test = rows_of_split("test")
    counts = {"train": frames, "validation": max(1, round(frames * VALIDATION_SHARE))}
    rows = {split: list(islice(cycle(test), count)) for split, count in counts.items()}
    with repeated(_anonymous_mib, SAMPLE_SECONDS) as prepare_mib:
        start = time.perf_counter()
        write_prepared_arrays(folder, candidate.input, rows)
        seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in folder.rglob("*.npy"))
    with repeated(_anonymous_mib, SAMPLE_SECONDS) as training_mib:
        training_ms = _train(candidate, read_split_arrays(folder))
    return {
        "frames": frames,
        "arrays, GiB": round(size / 2**30, 1),
        "preparation, ms per frame": round(1000 * seconds / sum(counts.values()), 2),
        "preparation, MiB": round(max(prepare_mib, default=0)),
        "training, ms per frame": round(training_ms, 2),
        "training, MiB": round(max(training_mib, default=0)),
    }


def _train(candidate: Any, splits: dict[str, Any]) -> float:
    """Train one epoch over all frames; return the mean milliseconds per frame after WARM_UP_STEPS."""
    from training.fitting.trainer import keras, train

    times: list[float] = []

    class StepTimes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            times.append(time.perf_counter() * 1000)

    phase = candidate.recipe.phases[0].model_copy(update={"epochs": 1})
    recipe = candidate.recipe.model_copy(update={"phases": [phase], "steps_per_epoch": None})
    train(candidate.model_copy(update={"recipe": recipe}), splits, 1, [StepTimes()])
    steps = [later - earlier for earlier, later in zip(times[WARM_UP_STEPS:], times[WARM_UP_STEPS + 1 :], strict=False)]
    return statistics.fmean(steps) / recipe.batch_size


def _anonymous_mib() -> float:
    """Return the anonymous resident memory of this process, MiB."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--in", dest="folder", type=Path, help="measure in this process, with arrays in this folder")
    arguments = parser.parse_args()
    if arguments.folder:
        print("\n" + json.dumps(measure_in_this_process(arguments.frames, arguments.folder)))
    else:
        record("larger_than_memory", lambda: measure(arguments.frames), "larger_than_memory")


if __name__ == "__main__":
    main()
