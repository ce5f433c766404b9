"""A training step against the machine's peak: oneDNN's log of each primitive, by kind of layer and resolution.

`python -m benchmarks.training_roofline` prints the peaks as JSON. They are measured in a process of their own, with the
same TensorFlow settings as a training.
"""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import table

EPOCHS = 2
REPEATS = 20
MATRIX_SIZE = 2048
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}  # of a CPU
CONVOLUTION_SHAPE = (16, 80, 112, 64)  # N, H, W, C: as in the middle of a U-net
DENSE, DEPTHWISE, MATRIX = "convolution", "depthwise convolution", "matrix product"
OTHER_PRIMITIVES, OUTSIDE = "oneDNN's other primitives", "outside of oneDNN"
PRIMITIVE = re.compile(r"^onednn_verbose,v1,primitive,exec,cpu,(?P<rest>.*),(?P<ms>[\d.e-]+)$", re.MULTILINE)
CONVOLUTION = re.compile(
    r"mb(?P<mb>\d+)_(g(?P<g>\d+))?ic(?P<ic>\d+)oc(?P<oc>\d+)"
    r"_ih\d+oh(?P<oh>\d+)kh(?P<kh>\d+)\D.*iw\d+ow(?P<ow>\d+)kw(?P<kw>\d+)"
)


def measure(candidates: list[str]) -> dict[str, Any]:
    peaks = json.loads(_run("benchmarks.training_roofline"))
    return {"peak_gflops": peaks, "networks": [_measure_network(name, peaks["float32"]) for name in candidates]}


def _run(module: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def _measure_network(name: str, peaks: dict[str, float]) -> dict[str, Any]:
    """Return the layer groups of a step, and the time that it would take at the peaks."""
    step = json.loads(_run("benchmarks.training_steps", name, str(EPOCHS)).splitlines()[-1])
    log = _run("benchmarks.training_steps", name, str(EPOCHS), ONEDNN_VERBOSE="1")
    logged_step = json.loads(log.splitlines()[-1])
    groups = sum_primitives(log, EPOCHS * logged_step["steps"])
    primitives_ms = sum(group["ms"] for group in groups)
    groups.append(
        {"layers": OUTSIDE, "resolution": "", "gflop": 0.0, "ms": max(0.0, logged_step["wall_ms"] - primitives_ms)}
    )
    floor_ms = sum(group["gflop"] / peaks[group["layers"]] * 1000 for group in groups if group["gflop"])
    return {"network": name, "step_ms": step["wall_ms"], "floor_ms": floor_ms, "groups": groups}


def sum_primitives(log: str, steps: int) -> list[dict[str, Any]]:
    """Return GFLOP and milliseconds of a step by kind of layer and resolution, from the log of `steps` steps.

    Forward and both backward convolutions have the same number of operations.
    """
    groups: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for primitive in PRIMITIVE.finditer(log):
        layers, resolution, operations = OTHER_PRIMITIVES, "", 0.0
        if primitive["rest"].startswith("convolution,") and (shape := CONVOLUTION.search(primitive["rest"])):
            size = {key: int(value or 1) for key, value in shape.groupdict().items()}
            layers = DEPTHWISE if size["g"] > 1 else DENSE
            resolution = f"{size['oh']}x{size['ow']}"
            inputs = size["ic"] / size["g"] * size["kh"] * size["kw"]
            operations = 2.0 * size["mb"] * size["oc"] * size["oh"] * size["ow"] * inputs
        group = groups[layers, resolution]
        group[0] += operations / 1e9 / steps
        group[1] += float(primitive["ms"]) / steps
    return [
        {"layers": layers, "resolution": resolution, "gflop": gflop, "ms": ms}
        for (layers, resolution), (gflop, ms) in sorted(groups.items(), key=lambda item: -item[1][1])
    ]


def measure_peaks() -> dict[str, dict[str, float]]:
    """Return the 10^9 operations per second of large layers, by number format and kind of layer."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    dtypes = ["float32"] + (["bfloat16"] if flags & BFLOAT16_FLAGS else [])
    return {
        dtype: {
            kind: round(operations / _median_seconds(layer) / 1e9, 1)
            for kind, (operations, layer) in _large_layers(dtype).items()
        }
        for dtype in dtypes
    }


def _large_layers(dtype: str) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Return the number of operations and the function of a layer of each kind."""
    from training.fitting.devices import tf

    def random(*shape: int) -> Any:
        return tf.cast(tf.random.stateless_normal(shape, (0, 0)), dtype)

    channels, pixels = CONVOLUTION_SHAPE[-1], math.prod(CONVOLUTION_SHAPE[:-1])
    image, matrix = random(*CONVOLUTION_SHAPE), random(MATRIX_SIZE, MATRIX_SIZE)
    kernel, filters = random(3, 3, channels, channels), random(3, 3, channels, 1)
    return {
        MATRIX: (2 * MATRIX_SIZE**3, tf.function(lambda: tf.matmul(matrix, matrix))),
        DENSE: (2 * 9 * channels**2 * pixels, tf.function(lambda: tf.nn.conv2d(image, kernel, 1, "SAME"))),
        DEPTHWISE: (
            2 * 9 * channels * pixels,
            tf.function(lambda: tf.nn.depthwise_conv2d(image, filters, (1, 1, 1, 1), "SAME")),
        ),
    }


def _median_seconds(layer: Callable[[], Any]) -> float:
    def time_call() -> float:
        start = time.perf_counter()
        layer()
        return time.perf_counter() - start

    return statistics.median([time_call() for _ in range(REPEATS)][REPEATS // 4 :])


def to_markdown(figures: dict[str, Any]) -> str:
    peaks = [{"10^9 operations per second": dtype, **kinds} for dtype, kinds in figures["peak_gflops"].items()]
    parts = [table(peaks)]
    for network in figures["networks"]:
        float32 = figures["peak_gflops"]["float32"]
        rows = [_group_row(group, float32) for group in network["groups"]]
        share = network["floor_ms"] / network["step_ms"]
        parts.append(
            f"A step of `{network['network']}` takes {network['step_ms']:.0f} ms. At the float32 peaks its "
            f"convolutions would take {network['floor_ms']:.0f} ms, a share of {share:.2f}.\n\n{table(rows)}"
        )
    return "\n\n".join(parts)


def _group_row(group: dict[str, Any], peaks: dict[str, float]) -> dict[str, str]:
    rate = group["gflop"] / group["ms"] * 1000 if group["gflop"] else None
    return {
        "layers": group["layers"],
        "output": group["resolution"],
        "10^9 operations": f"{group['gflop']:.2f}" if rate else "",
        "ms": f"{group['ms']:.1f}",
        "10^9 operations per second": f"{rate:.0f}" if rate else "",
        "share of the peak": f"{rate / peaks[group['layers']]:.2f}" if rate else "",
    }


if __name__ == "__main__":
    print(json.dumps(measure_peaks()))
