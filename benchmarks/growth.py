"""How cost grows with the network's input, the frame, the cine, the clients and the training frames."""

import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks import load
from benchmarks.contenders import OURS, started
from benchmarks.report import FOLDER, table
from benchmarks.uploads import encoded, frames
from tests.dicoms import ultrasound, written

PICTURE = FOLDER / "growth.png"
INPUTS = ((96, 128), (160, 224), (320, 448), (480, 672))
SIDES = (128, 256, 512, 1024, 2048, 4096)
LENGTHS = (1, 10, 100, 1000, 3000)
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
TRAINING = (100, 1000, 5635)
NET = "light"
SECONDS = 5.0

Row = dict[str, float]


def measure() -> dict[str, list[Row]]:
    with started(OURS) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=600) as client:
        return {
            "network input, pixels": [_network(*size) for size in INPUTS],
            "frame, pixels": [_frame(server.port, side) for side in SIDES],
            "cine, frames": [_cine(client, length) for length in LENGTHS],
            "clients": [_clients(server.port, count) for count in CLIENTS],
            "training frames": [_prepare(count) for count in TRAINING],
        }


def _network(height: int, width: int) -> Row:
    """The light net with untrained weights, alone, float32: its time does not depend on them."""
    from service.runtime import on_cpu
    from training import parameters
    from training.quiet import import_tensorflow
    from training.train_unet import export
    from training.unet import build

    import_tensorflow()
    entry = parameters.candidate(NET)
    with tempfile.TemporaryDirectory() as folder:
        model = build(entry.net, entry.input.model_copy(update={"height": height, "width": width}))
        export(model, Path(folder) / "unet.onnx")
        runtime = on_cpu(Path(folder), "float32")
        batch = np.zeros((1, height, width, 1), np.float32)
        times = []
        for _ in range(50):
            start = time.perf_counter()
            runtime(batch)
            times.append((time.perf_counter() - start) * 1000)
    return {"at": height * width, "ms": round(statistics.median(times[10:]), 2)}


def _frame(port: int, side: int) -> Row:
    requests = [load.request("/mask", "image/png", encoded(".png", grey)) for grey in frames(side, side, 2)]
    found = load.run(load.Load(port, requests, 1, SECONDS))
    return {"at": side * side, "ms": round(found.percentile(50), 2)}


def _cine(client: httpx.Client, length: int) -> Row:
    """Small frames, so that the longest fits the upload's limit: what is seen is the cost of many."""
    cine = written(ultrasound(np.stack(list(islice(cycle(frames(240, 320)), length)))))
    start = time.perf_counter()
    answer = client.post("/segment", content=cine, headers={"content-type": "application/dicom"})
    answer.raise_for_status()
    return {"at": length, "ms": round((time.perf_counter() - start) * 1000 / length, 2)}


def _clients(port: int, count: int) -> Row:
    requests = [load.request("/mask", "image/png", encoded(".png", grey)) for grey in frames(420, 580)]
    found = load.run(load.Load(port, requests, count, SECONDS))
    return {"at": count, "ms": round(1000 / found.a_second, 2), "p99": round(found.percentile(99), 1)}


def _prepare(count: int) -> Row:
    """Held-out frames again and again, prepared in a process of their own: its time, and the memory it took."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", str(count)], check=True, capture_output=True, text=True
    )
    seconds, mib = map(float, done.stdout.split()[-2:])
    return {"at": count, "ms": round(seconds * 1000 / count, 2), "seconds": seconds, "MiB": mib}


def prepare(count: int) -> None:
    """Prepare this many frames; prints seconds, and MiB that were resident at the most."""
    from service.card import Input, Normalisation
    from training import parameters
    from training.prepare import write_side
    from training.split import rows_of

    size = parameters.candidate(NET).input
    rows = list(islice(cycle(rows_of("test")), count))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start = time.perf_counter()
        write_side(Path(folder) / "side", rows, Input(size.height, size.width, Normalisation("frame")), size)
        seconds = time.perf_counter() - start
    # Not ru_maxrss: it counts the process that this one was made from.
    most = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"\n{seconds:.2f} {int(most[1]) / 1024 if most else math.nan:.0f}")


def tell(figures: dict[str, list[Row]]) -> str:
    drawn = Figure(figsize=(16, 3.4), layout="constrained")
    drawn.suptitle("milliseconds a frame")
    for axis, (what, rows) in zip(drawn.subplots(1, len(figures)), figures.items(), strict=True):
        axis.plot([row["at"] for row in rows], [row["ms"] for row in rows], "o-")
        axis.set(xlabel=what, xscale="log", ylim=(0, None))
        if what.endswith("pixels"):  # a frame's cost grows with them: a straight line on two such scales
            axis.set(yscale="log", ylim=(0.1, 1000))
            axis.yaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    drawn.savefig(PICTURE, dpi=80, metadata={"Software": None})
    parts = [
        f"**{what}**\n\n{table([{what: row['at']} | _without_at(row) for row in rows])}"
        for what, rows in figures.items()
    ]
    return "\n\n".join([f"Milliseconds a frame.\n\n![Cost by size]({PICTURE.name})", *parts])


def _without_at(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "at"}


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
