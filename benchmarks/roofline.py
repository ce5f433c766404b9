"""Roofline: the served network against the machine's peak, by the resolution of its layers."""

import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.report import table
from service.model.card import NETWORK_FILES, Card
from service.model.model_folder import model_folder
from service.resources.container_limits import cpu_cores

TITLE = "Roofline: the served network against the machine's peak, by the resolution of its layers"
REPEATS = 60
MATRIX_SIZE = 2048
CONVOLUTION_SHAPE = (1, 64, 80, 112)  # N, C, H, W: as in the middle of a U-Net
MULTIPLYING_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")
OTHER = "other"


def measure() -> dict[str, Any]:
    card = Card.read(model_folder())
    network = openvino.Core().read_model(model_folder() / NETWORK_FILES[card.precision])
    network.reshape([1, card.input.height, card.input.width, 1])
    network_ms, layers = _measure_layers(network, _precision_hint(card.precision))
    return {
        "precision": card.precision,
        "network_ms": network_ms,
        "layers": layers,
        "peak_gops": {
            kind: {hint: _measure_peak(kind, hint) for hint in ("f32", "bf16")}
            for kind in ("matrix product", "convolution")
        },
    }


def _precision_hint(precision: str) -> str:
    return "f32" if precision == "float32" else "bf16"


def _compile(network: openvino.Model, hint: str) -> openvino.CompiledModel:
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cpu_cores(), "PERF_COUNT": True}
    return openvino.Core().compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})


def _median_ms(request: openvino.InferRequest, inputs: dict[Any, np.ndarray]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        request.infer(inputs)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[REPEATS // 6 :])


def _measure_peak(kind: str, hint: str) -> float:
    """Return the 10^9 operations per second of one large layer. A multiplication and an addition are two operations."""
    rng = np.random.default_rng(0)
    if kind == "matrix product":
        layer_input = ops.parameter([MATRIX_SIZE, MATRIX_SIZE], np.float32)
        weights = rng.normal(size=(MATRIX_SIZE, MATRIX_SIZE)).astype(np.float32)
        layer = ops.matmul(layer_input, ops.constant(weights), False, False)
        operations = 2 * MATRIX_SIZE**3
    else:
        channels, height, width = CONVOLUTION_SHAPE[1:]
        layer_input = ops.parameter(CONVOLUTION_SHAPE, np.float32)
        weights = rng.normal(size=(channels, channels, 3, 3)).astype(np.float32)
        layer = ops.convolution(layer_input, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
        operations = 2 * channels * channels * 9 * height * width
    request = _compile(openvino.Model([layer], [layer_input]), hint).create_infer_request()
    milliseconds = _median_ms(request, {0: rng.normal(size=layer_input.get_shape()).astype(np.float32)})
    return round(operations / milliseconds / 1e6, 1)


def count_operations(op: openvino.Node) -> int:
    """Return the multiplications and additions of a layer in MULTIPLYING_LAYERS."""
    weights = op.input_value(1).get_shape()
    if op.get_type_name() == "MatMul":
        return 2 * int(np.prod(op.get_output_shape(0))) * op.input_value(0).get_shape()[-1]
    if op.get_type_name() == "ConvolutionBackpropData":  # each input pixel is multiplied with all weights
        return 2 * int(np.prod(op.input_value(0).get_shape()[2:])) * int(np.prod(weights))
    return 2 * int(np.prod(op.get_output_shape(0)[2:])) * int(np.prod(weights))


def _measure_layers(network: openvino.Model, hint: str) -> tuple[float, list[dict[str, Any]]]:
    """Return the network's milliseconds, and the operations and milliseconds of its layers by resolution."""
    nodes = network.get_ops()
    shapes = {op.get_friendly_name(): op.get_output_shape(0) for op in nodes if op.get_output_size()}
    operations = {
        op.get_friendly_name(): count_operations(op) for op in nodes if op.get_type_name() in MULTIPLYING_LAYERS
    }
    request = _compile(network, hint).create_infer_request()
    network_ms = _median_ms(request, {"frame": np.zeros(network.input("frame").get_shape(), np.float32)})
    groups: dict[str, dict[str, float]] = defaultdict(lambda: {"operations": 0, "multiplying_ms": 0.0, "other_ms": 0.0})
    for layer in request.profiling_info:
        milliseconds = layer.real_time.total_seconds() * 1000
        if not milliseconds:
            continue
        shape = shapes.get(layer.node_name)
        resolution = f"{shape[2]}x{shape[3]}" if shape is not None and len(shape) == 4 else OTHER
        groups[resolution]["operations"] += operations.get(layer.node_name, 0)
        groups[resolution]["multiplying_ms" if layer.node_name in operations else "other_ms"] += milliseconds
    rows = [
        {"resolution": resolution, **{name: round(value, 3) for name, value in group.items()}}
        for resolution, group in groups.items()
    ]
    return round(network_ms, 3), rows


def to_markdown(figures: dict[str, Any]) -> str:
    hint = _precision_hint(figures["precision"])
    peak = figures["peak_gops"]["matrix product"][hint]
    peaks = [{"10^9 operations per second": kind, **by_hint} for kind, by_hint in figures["peak_gops"].items()]
    rows = [_layer_row(layer, hint, peak) for layer in figures["layers"]]
    sentence = f"The whole network takes {figures['network_ms']} ms in {figures['precision']}."
    return f"{table(peaks)}\n\n{sentence}\n\n{table(rows)}"


def _layer_row(layer: dict[str, Any], hint: str, peak: float) -> dict[str, Any]:
    milliseconds = layer["multiplying_ms"]
    rate = round(layer["operations"] / milliseconds / 1e6, 1) if milliseconds else None
    return {
        "resolution": layer["resolution"],
        "10^9 operations": round(layer["operations"] / 1e9, 3),
        "ms in multiplying layers": milliseconds,
        "ms in other layers": layer["other_ms"],
        "10^9 operations per second": "" if rate is None else rate,
        f"share of the {hint} peak": "" if rate is None else f"{rate / peak:.2f}",
    }
