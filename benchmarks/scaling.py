"""Cost against the size of the network input, the frame, the cine, the number of clients and the training set."""

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

from benchmarks import load_generator
from benchmarks.compared_servers import NERVEMASK, run_server
from benchmarks.report import FOLDER, table
from benchmarks.sample_uploads import encode_image, sample_frames
from tests.dicoms import make_ultrasound, to_bytes

TITLE = "Cost against the size of the network input, the frame, the cine, the number of clients and the training set"
PLOT = FOLDER / "scaling.png"
INPUT_SIZES = ((96, 128), (160, 224), (320, 448), (480, 672))
FRAME_SIDES_PX = (128, 256, 512, 1024, 2048, 4096)
CINE_FRAMES = (1, 10, 100, 1000, 3000)
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
TRAINING_FRAMES = (100, 1000, 5635)
CANDIDATE = "light"
LOAD_SECONDS = 5.0
REPEATS, WARM_UP_REPEATS = 50, 10

Row = dict[str, float]


def measure() -> dict[str, list[Row]]:
    with run_server(NERVEMASK) as server, httpx.Client(base_url=server.url, timeout=600) as client:
        return {
            "network input, pixels": [_measure_network(*size) for size in INPUT_SIZES],
            "frame, pixels": [_measure_frame(server.port, side) for side in FRAME_SIDES_PX],
            "cine, frames": [_measure_cine(client, length) for length in CINE_FRAMES],
            "clients": [_measure_clients(server.port, count) for count in CLIENTS],
            "training frames": [_measure_preparation(count) for count in TRAINING_FRAMES],
        }


def _measure_network(height: int, width: int) -> Row:
    """Measure the candidate's network alone, in float32, with random weights: its time does not depend on them."""
    from service.inference.runtime_selection import open_cpu_runtime
    from training.models.onnx_export import export_onnx
    from training.models.unet import build_unet
    from training.workspace import nerve_parameters

    candidate = nerve_parameters.read_candidate(CANDIDATE)
    with tempfile.TemporaryDirectory() as folder:
        model = build_unet(candidate.net, candidate.input.model_copy(update={"height": height, "width": width}))
        export_onnx(model, Path(folder) / "unet.onnx")
        runtime = open_cpu_runtime(Path(folder), "float32")
        batch = np.zeros((1, height, width, 1), np.float32)
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            runtime(batch)
            times.append((time.perf_counter() - start) * 1000)
    return {"size": height * width, "ms_per_frame": round(statistics.median(times[WARM_UP_REPEATS:]), 2)}


def _png_requests(frames: list[np.ndarray]) -> list[str]:
    return [load_generator.encode_request("/mask", "image/png", encode_image(".png", grey)) for grey in frames]


def _measure_frame(port: int, side: int) -> Row:
    requests = _png_requests(sample_frames(side, side, 2))
    result = load_generator.run(load_generator.Load(port, requests, 1, LOAD_SECONDS))
    return {"size": side * side, "ms_per_frame": round(result.percentile(50), 2)}


def _measure_cine(client: httpx.Client, length: int) -> Row:
    """The frames are small, so that the longest cine fits the upload limit."""
    frames = np.stack(list(islice(cycle(sample_frames(240, 320)), length)))
    cine = to_bytes(make_ultrasound(frames))
    start = time.perf_counter()
    response = client.post("/segment", content=cine, headers={"content-type": "application/dicom"})
    response.raise_for_status()
    return {"size": length, "ms_per_frame": round((time.perf_counter() - start) * 1000 / length, 2)}


def _measure_clients(port: int, count: int) -> Row:
    requests = _png_requests(sample_frames(420, 580))
    result = load_generator.run(load_generator.Load(port, requests, count, LOAD_SECONDS))
    return {
        "size": count,
        "ms_per_frame": round(1000 / result.per_second, 2),
        "p99_latency_ms": round(result.percentile(99), 1),
    }


def _measure_preparation(count: int) -> Row:
    """Prepare repeated test frames in a separate process, and return its time and its peak memory."""
    command = [sys.executable, "-m", "benchmarks.scaling", str(count)]
    completed = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, mib = map(float, completed.stdout.split()[-2:])
    return {
        "size": count,
        "ms_per_frame": round(seconds * 1000 / count, 2),
        "total_seconds": seconds,
        "peak_memory_mib": mib,
    }


def prepare(count: int) -> None:
    """Prepare `count` training frames. Print the seconds and the peak resident memory in MiB."""
    from service.model.card import NetworkInput, Normalization
    from training.data.prepared_arrays import write_arrays
    from training.data.split_table import rows_of_split
    from training.workspace import nerve_parameters

    size = nerve_parameters.read_candidate(CANDIDATE).input
    rows = list(islice(cycle(rows_of_split("test")), count))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start = time.perf_counter()
        write_arrays(Path(folder) / "train", rows, NetworkInput(size.height, size.width, Normalization("frame")))
        seconds = time.perf_counter() - start
    # ru_maxrss would include the parent process before exec.
    peak_kib = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"\n{seconds:.2f} {int(peak_kib[1]) / 1024 if peak_kib else math.nan:.0f}")


def to_markdown(figures: dict[str, list[Row]]) -> str:
    """Return the tables, and draw PLOT."""
    _plot(figures)
    sections = [
        f"**{quantity}**\n\n{table([{quantity: row['size']} | _without_size(row) for row in rows])}"
        for quantity, rows in figures.items()
    ]
    return "\n\n".join([f"Milliseconds per frame.\n\n![Cost by size]({PLOT.name})", *sections])


def _plot(figures: dict[str, list[Row]]) -> None:
    figure = Figure(figsize=(16, 3.4), layout="constrained")
    figure.suptitle("milliseconds per frame")
    for axes, (quantity, rows) in zip(figure.subplots(1, len(figures)), figures.items(), strict=True):
        axes.plot([row["size"] for row in rows], [row["ms_per_frame"] for row in rows], "o-")
        axes.set(xlabel=quantity, xscale="log", ylim=(0, None))
        if quantity.endswith("pixels"):  # cost grows with the number of pixels: a straight line on two log scales
            axes.set(yscale="log", ylim=(0.1, 1000))
            axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=80, metadata={"Software": None})


def _without_size(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "size"}


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
