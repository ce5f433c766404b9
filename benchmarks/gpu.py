"""The service on a GPU: each precision against float32 on the CPU, batches, throughput by number of workers, training.

`python -m benchmarks.gpu`. It needs an NVIDIA GPU, onnxruntime-gpu in place of onnxruntime, and a champion. It takes
about 8 minutes.
`--stand-in` runs ONNX Runtime on the CPU in place of the GPU: it tests this program, and its figures say nothing.

The load generator and the service share the machine's cores.
"""

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compared_servers import NERVEMASK, RunningServer, decode_upload, run_server
from benchmarks.load_generator import Load, LoadResult, run
from benchmarks.report import record, table
from benchmarks.sample_uploads import SampleUploads, encode_image, make_sample_uploads, sample_frames
from service.inference.dynamic_batching import BATCH_SIZES
from service.inference.gpu_runtimes import open_gpu_runtimes
from service.inference.onnx_runtime import CPU, OnnxRuntime
from service.inference.openvino_runtime import OpenVinoRuntime
from service.inference.preprocessing import preprocess
from service.model.card import NETWORK_FILES, Card, GpuPrecision
from service.model.model_folder import model_folder
from service.rendering.image_encoding import encode_png
from service.resources.container_limits import cpu_cores
from service.resources.gpu_detection import has_gpu
from service.resources.worker_count import worker_count
from training.data.sources import phantom

TITLE = "The service on a GPU"
CONNECTIONS = 64
WORKERS = (2, 4, 6)  # and the default
WARM_UP_SECONDS, LOAD_SECONDS = 3.0, 12.0
PHANTOM_FRAMES = 24
BATCH_REPEATS = 50
CODEC_SECONDS = 5.0
TRAINED = ("light", "deep", "large")  # presets of params.yaml
TRAINING_SECONDS = 80  # at most, of each
MIN_PER_SECOND, MAX_P99_MS, MAX_READY_SECONDS, MAX_GPU_GIB = 1500, 60, 10, 4
# Python runs it at the start of each process of the service.
STAND_IN = """
from service.inference import onnx_runtime, runtime_selection
from service.inference.dynamic_batching import BATCH_SIZES
from service.model.card import NETWORK_FILES
runtime_selection.open_gpu_runtimes = lambda folder, precision: dict.fromkeys(
    BATCH_SIZES, onnx_runtime.OnnxRuntime(folder / NETWORK_FILES[precision], precision, [onnx_runtime.CPU])
)
"""


def measure(stand_in: bool = False) -> dict[str, Any]:
    folder = model_folder()
    frames = [phantom.simulate_frame(7, subject, 1)[0] for subject in range(1, PHANTOM_FRAMES + 1)]
    default_workers = worker_count()
    precisions = ("float32", Card.read(folder).gpu_precision)
    return {
        "stand_in": stand_in,
        "default_workers": default_workers,
        "codec_per_second": measure_codec(),  # before CUDA starts: it forks
        "precisions": [_try(measure_precision, folder, name, frames, stand_in) for name in dict.fromkeys(precisions)],
        "services": [_try(measure_service, count, stand_in) for count in sorted({*WORKERS, default_workers})],
        "training": [_try(measure_training, name) for name in TRAINED],
    }


def _try(measure_part: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return the figures, or the error: the other figures are worth keeping. Print them for the log."""
    try:
        row = measure_part(*arguments)
    except (Exception, SystemExit) as error:
        row = {"measured": f"{measure_part.__name__}{arguments[:1]}", "error": str(error)[:300]}
    print(row, file=sys.stderr)
    return row


def measure_precision(
    folder: Path, precision: GpuPrecision, frames: list[np.ndarray], stand_in: bool
) -> dict[str, Any]:
    """Compare the probabilities with those of float32 on the CPU, and time batches."""
    card = Card.read(folder)
    runtimes = _open(folder, precision, stand_in)
    runtime = runtimes[BATCH_SIZES[0]]
    inputs = np.stack([preprocess(decode_upload(encode_image(".png", pixels)), card.input) for pixels in frames])
    expected, expected_presence = OpenVinoRuntime(folder / NETWORK_FILES["float32"], "float32")(inputs)
    mask, presence = runtime(inputs)
    row = {
        "precision": precision,
        "device": runtime.device,
        "largest_difference": float(np.abs(mask - expected).max()),
        "presence_difference": float(np.abs(presence - expected_presence).max()),
        "pixels_across_one_half": float(np.mean((mask >= 0.5) != (expected >= 0.5))),
    }
    batches = {size: inputs[np.arange(size) % len(inputs)] for size in BATCH_SIZES}
    for size, batch in batches.items():
        runtimes[size](batch)
        times = [_time_ms(runtimes[size], batch) for _ in range(BATCH_REPEATS)]
        row[f"batch_{size}_ms"] = round(statistics.median(times), 3)
    # One session for changing batch sizes: it shows whether there must be one for each.
    times = [_time_ms(runtime, batch) for _ in range(BATCH_REPEATS // len(batches) + 1) for batch in batches.values()]
    return row | {"one_session_changing_batch_ms": round(statistics.median(times), 3)}


def _open(folder: Path, precision: GpuPrecision, stand_in: bool) -> dict[int, OnnxRuntime]:
    if stand_in:
        return dict.fromkeys(BATCH_SIZES, OnnxRuntime(folder / NETWORK_FILES[precision], precision, [CPU]))
    if not (runtimes := open_gpu_runtimes(folder, precision)):
        sys.exit("There is no usable NVIDIA GPU: the service would use the CPU. See the warning above.")
    return runtimes


def _time_ms(runtime: OnnxRuntime, batch: np.ndarray) -> float:
    start = time.perf_counter()
    runtime(batch)
    return (time.perf_counter() - start) * 1000


def measure_codec() -> float:
    """Return the frames per second that all cores decode from PNG and encode as masks, without a service."""
    with ProcessPoolExecutor(cpu_cores()) as pool:
        list(pool.map(_count_codec, [0.2] * cpu_cores()))  # start the processes
        counts = list(pool.map(_count_codec, [CODEC_SECONDS] * cpu_cores()))
    return round(sum(counts) / CODEC_SECONDS, 1)


def _count_codec(seconds: float) -> int:
    from service.decoding.image_file import decode_image

    file = encode_image(".png", sample_frames(420, 580, 1)[0])
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        encode_png((decode_image(file).pixels > 127).astype(np.uint8) * 255)
        count += 1
    return count


def measure_service(workers: int, stand_in: bool) -> dict[str, Any]:
    """Measure the service with this number of workers and CONNECTIONS clients."""
    uploads = make_sample_uploads()[0]
    mib_before = gpu_mib()
    with tempfile.TemporaryDirectory() as folder:
        environment = {"NERVEMASK_WORKERS": str(workers)}
        if stand_in:
            Path(folder, "sitecustomize.py").write_text(STAND_IN)
            environment["PYTHONPATH"] = f"{folder}:{Path.cwd()}"
        with run_server(NERVEMASK, **environment) as server:
            alone = run(Load(server.port, server.requests(uploads), 1, WARM_UP_SECONDS))
            masks = [max(digests, key=digests.__getitem__) for digests in alone.digests]
            _load(server, uploads, WARM_UP_SECONDS)
            result = _load(server, uploads, LOAD_SECONDS)
            mib = gpu_mib()
    counts = list(zip(masks, result.digests, strict=True))
    return {
        "workers": workers,
        "ready_seconds": round(server.ready_seconds, 2),
        "single_client_ms": round(alone.percentile(50), 2),
        "per_second": round(result.per_second, 1),
        "median_ms": round(result.percentile(50), 1),
        "p99_ms": round(result.percentile(99), 1),
        "refused": sum(count for status, count in result.statuses.items() if status != "200"),
        "of_another_frame": sum(digests[mask] for own, digests in counts for mask in {*masks} - {own}),
        "changed_by_batching": sum(digests.total() - digests[own] for own, digests in counts),
        "gpu_gib": None if mib is None or mib_before is None else round((mib - mib_before) / 1024, 2),
    }


def _load(server: RunningServer, uploads: SampleUploads, seconds: float) -> LoadResult:
    return run(Load(server.port, server.requests(uploads), CONNECTIONS, seconds))


def gpu_mib() -> float | None:
    """Return the memory of the GPU that all processes use; None if `nvidia-smi` does not say it."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def measure_training(name: str) -> dict[str, Any]:
    """Measure the training steps of a preset in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_steps", name, "3"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=TRAINING_SECONDS)
    except subprocess.TimeoutExpired:
        return {"network": name, "result": f"not ended after {TRAINING_SECONDS} s"}
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        return {"network": name, "result": last_line[:200]}
    cost = json.loads(process.stdout.splitlines()[-1])
    if cost["gpu_mib"] is None:
        return {"network": name, "result": "TensorFlow sees no GPU: install tensorflow[and-cuda]"}
    rate, gib = round(1000 / cost["wall_ms"], 2), round(cost["gpu_mib"] / 1024, 2)
    return {"network": name, "result": f"{rate} steps per second, at most {gib} GiB of the GPU"}


def limits(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each limit, for the default number of workers."""
    service = next((row for row in figures["services"] if row.get("workers") == figures["default_workers"]), None)
    if service is None:
        return [
            {"figure": "the service with the default number of workers", "value": "error", "limit": "", "met": "no"}
        ]
    rows: list[tuple[str, float | None, str, bool]] = [
        (
            "masks per second",
            service["per_second"],
            f"at least {MIN_PER_SECOND}",
            service["per_second"] >= MIN_PER_SECOND,
        ),
        ("p99 in ms", service["p99_ms"], f"at most {MAX_P99_MS}", service["p99_ms"] <= MAX_P99_MS),
        ("refused", service["refused"], "0", not service["refused"]),
        ("masks of another frame", service["of_another_frame"], "0", not service["of_another_frame"]),
        (
            "seconds until ready",
            service["ready_seconds"],
            f"{MAX_READY_SECONDS}",
            service["ready_seconds"] <= MAX_READY_SECONDS,
        ),
        (
            "GiB of the GPU",
            service["gpu_gib"],
            f"at most {MAX_GPU_GIB}",
            (service["gpu_gib"] or math.inf) <= MAX_GPU_GIB,
        ),
    ]
    keys = ("figure", "value", "limit", "met")
    return [dict(zip(keys, (*row[:3], "yes" if row[3] else "no"), strict=True)) for row in rows]


def to_markdown(figures: dict[str, Any]) -> str:
    stand_in = "ONNX Runtime on the CPU stood in for the GPU: the figures say nothing about a GPU.\n\n"
    return (stand_in if figures["stand_in"] else "") + "\n\n".join(
        [
            f"{CONNECTIONS} clients send PNG frames of 580x420 from this machine. All cores alone decode and encode "
            f"{figures['codec_per_second']} of them per second. The default is {figures['default_workers']} workers.",
            table(limits(figures)),
            "### By number of workers",
            table(figures["services"]),
            "### By precision, compared with float32 on the CPU",
            table(figures["precisions"]),
            "### Training",
            table(figures["training"]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=TITLE)
    parser.add_argument("--stand-in", action="store_true", help="test this program without a GPU")
    arguments = parser.parse_args()
    if not (arguments.stand_in or has_gpu()):
        sys.exit("There is no NVIDIA GPU, or onnxruntime-gpu is not installed in place of onnxruntime.")
    figures = record("gpu", functools.partial(measure, arguments.stand_in), "gpu")
    sys.exit("; ".join(f"{row['figure']}: {row['value']}" for row in limits(figures) if row["met"] == "no") or 0)


if __name__ == "__main__":
    main()
