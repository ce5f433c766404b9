"""The served network beside the machine's own peak, by the resolution its layers work at."""

import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.report import table
from service.card import NETWORKS, Card, champion_folder
from service.machine import cores

TIMES = 60
SIDE = 2048  # of the matrices
CONVOLUTION = (1, 64, 80, 112)  # N, C, H, W: as in the middle of a U-net
WORK = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")


def measure() -> dict[str, Any]:
    card = Card.read(champion_folder())
    network = openvino.Core().read_model(champion_folder() / NETWORKS[card.precision])
    network.reshape([1, card.input.height, card.input.width, 1])
    hint = "f32" if card.precision == "float32" else "bf16"
    total, layers = _layers(network, hint)
    return {
        "precision": card.precision,
        "whole_ms": total,
        "layers": layers,
        "peaks": {kind: {of: _peak(kind, of) for of in ("f32", "bf16")} for kind in ("matrix product", "convolution")},
    }


def _compiled(network: openvino.Model, hint: str) -> openvino.CompiledModel:
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cores(), "PERF_COUNT": True}
    return openvino.Core().compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", **settings})


def _median_ms(request: openvino.InferRequest, inputs: dict[Any, np.ndarray]) -> float:
    times = []
    for _ in range(TIMES):
        start = time.perf_counter()
        request.infer(inputs)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[TIMES // 6 :])


def _peak(kind: str, hint: str) -> float:
    """Operations a second, in 10^9, of one large layer; a multiplication and an addition are two."""
    random = np.random.default_rng(0)
    if kind == "matrix product":
        given = ops.parameter([SIDE, SIDE], np.float32)
        weights = random.normal(size=(SIDE, SIDE)).astype(np.float32)
        layer, operations = ops.matmul(given, ops.constant(weights), False, False), 2 * SIDE**3
    else:
        channels, height, width = CONVOLUTION[1:]
        given = ops.parameter(CONVOLUTION, np.float32)
        weights = random.normal(size=(channels, channels, 3, 3)).astype(np.float32)
        layer = ops.convolution(given, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
        operations = 2 * channels * channels * 9 * height * width
    request = _compiled(openvino.Model([layer], [given]), hint).create_infer_request()
    took = _median_ms(request, {0: random.normal(size=given.get_shape()).astype(np.float32)})
    return round(operations / took / 1e6, 1)


def operations(op: openvino.Node) -> int:
    """Of a layer that multiplies, a multiplication and an addition counted as two."""
    weights = op.input_value(1).get_shape()
    if op.get_type_name() == "MatMul":
        return 2 * int(np.prod(op.get_output_shape(0))) * op.input_value(0).get_shape()[-1]
    if op.get_type_name() == "ConvolutionBackpropData":  # each pixel that comes in meets all weights
        return 2 * int(np.prod(op.input_value(0).get_shape()[2:])) * int(np.prod(weights))
    return 2 * int(np.prod(op.get_output_shape(0)[2:])) * int(np.prod(weights))


def _layers(network: openvino.Model, hint: str) -> tuple[float, list[dict[str, Any]]]:
    """Milliseconds of the whole, and by resolution: operations, and the time of all that works there."""
    shapes = {op.get_friendly_name(): op.get_output_shape(0) for op in network.get_ops() if op.get_output_size()}
    done = {op.get_friendly_name(): operations(op) for op in network.get_ops() if op.get_type_name() in WORK}
    request = _compiled(network, hint).create_infer_request()
    total = _median_ms(request, {"frame": np.zeros(network.input("frame").get_shape(), np.float32)})
    groups: dict[str, dict[str, float]] = defaultdict(lambda: {"operations": 0, "ms": 0.0, "elsewhere_ms": 0.0})
    for layer in request.profiling_info:
        took = layer.real_time.total_seconds() * 1000
        if not took:
            continue
        shape = shapes.get(layer.node_name)
        where = f"{shape[2]}x{shape[3]}" if shape is not None and len(shape) == 4 else "elsewhere"
        groups[where]["operations"] += done.get(layer.node_name, 0)
        groups[where]["ms" if layer.node_name in done else "elsewhere_ms"] += took
    return round(total, 3), [{"at": where, **{k: round(v, 3) for k, v in of.items()}} for where, of in groups.items()]


def tell(figures: dict[str, Any]) -> str:
    hint = "f32" if figures["precision"] == "float32" else "bf16"
    peak = figures["peaks"]["matrix product"][hint]
    rows = [
        {
            "resolution": row["at"],
            "10^9 operations": round(row["operations"] / 1e9, 3),
            "ms in layers that multiply": row["ms"],
            "ms in others": row["elsewhere_ms"],
            "10^9 a second": (reached := round(row["operations"] / row["ms"] / 1e6, 1)) if row["ms"] else "",
            f"of the {hint} peak": f"{reached / peak:.2f}" if row["ms"] else "",
        }
        for row in figures["layers"]
    ]
    peaks = [{"10^9 operations a second": kind, **of} for kind, of in figures["peaks"].items()]
    said = f"The whole network takes {figures['whole_ms']} ms, in {figures['precision']}."
    return f"{table(peaks)}\n\n{said}\n\n{table(rows)}"
