"""Choose the precisions of the served network.

A CPU gets the fastest precision whose masks are as good as those of the Keras network; a GPU gets float16 if its masks
are as good.

The float32 network must equal the Keras network (`export_check`). A lower precision changes probabilities a little, so
its masks are compared with the true masks: over validation, the mean Dice may fall by MAX_VALIDATION_DICE_DROP plus the
standard error of the fall. With few frames the standard error is the larger of the two.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from service.inference.onnx_runtime import CPU, OnnxRuntime
from service.inference.runtime_interface import Runtime
from service.inference.runtime_selection import open_cpu_runtime
from service.inference.segmenter import predict_probabilities
from service.inference.tta import with_tta
from service.model.card import NETWORK_FILE, Card, CpuPrecision, GpuPrecision, NetworkInput, Precision
from training.data.split_table import rows_of_split
from training.evaluation.inference import dice_scores
from training.release.export_check import KerasRuntime
from training.release.float16_conversion import write_rounding_network
from training.release.int8_quantization import quantize
from training.release.served_model_frames import sample_rows

CPU_PRECISIONS: tuple[CpuPrecision, ...] = get_args(CpuPrecision)
ROUNDING_NETWORK = "rounding.onnx"
TIMED_CALLS = 40  # of each precision
MAX_VALIDATION_DICE_DROP = 0.002


def is_as_good(change: np.ndarray) -> bool:
    """Return whether chance and MAX_VALIDATION_DICE_DROP explain a change of Dice.

    change: float (N,), one for each frame.
    """
    return bool(change.mean() + change.std() / len(change) ** 0.5 >= -MAX_VALIDATION_DICE_DROP)


def measure_milliseconds(runtimes: dict[Precision, Runtime], network_input: NetworkInput) -> dict[Precision, float]:
    """Return each runtime's median time for one frame.

    The runtimes take turns, so other work on the machine slows all.
    """
    batch = np.zeros((1, network_input.height, network_input.width, 1), np.float32)

    def time_call(runtime: Callable[[np.ndarray], Any]) -> float:
        start = time.perf_counter()
        runtime(batch)
        return (time.perf_counter() - start) * 1000

    rounds = [{name: time_call(runtime) for name, runtime in runtimes.items()} for _ in range(TIMED_CALLS)]
    return {name: round(statistics.median(times[name] for times in rounds), 3) for name in runtimes}


def open_runtimes(folder: Path, card: Card) -> dict[Precision, Runtime]:
    """Return the network of a candidate's folder in each precision, with the card's TTA.

    float16 is computed on the CPU, by a network that rounds the output of each layer.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        shutil.copy(folder / NETWORK_FILE, copy)
        quantize(copy, card.candidate)
        write_rounding_network(copy, copy / ROUNDING_NETWORK)
        runtimes: dict[Precision, Runtime] = {name: open_cpu_runtime(copy, name) for name in CPU_PRECISIONS}
        runtimes["float16"] = OnnxRuntime(copy / ROUNDING_NETWORK, "float16", [CPU])
        return {precision: with_tta(runtime, card.tta) for precision, runtime in runtimes.items()}


def choose_precisions(folder: Path, card: Card) -> tuple[CpuPrecision, GpuPrecision, dict[str, Any]]:
    """Return the precisions to serve on CPUs and on GPUs, and metrics of all, measured on the evaluated model.

    The choice depends on validation, because the evaluated model was not trained on it. The metrics also contain the
    change of Dice on the test split in the CPU's precision, and nothing depends on that.

    Ignores the precisions of `card`.

    folder: of the evaluated model.
    """
    runtimes = open_runtimes(folder, card)
    networks = {name: partial(predict_probabilities, runtime, card.input) for name, runtime in runtimes.items()}
    keras_network = partial(predict_probabilities, with_tta(KerasRuntime(folder), card.tta), card.input)
    validation, test = sample_rows(rows_of_split("validation")), sample_rows(rows_of_split("test"))
    keras_dice = dice_scores(keras_network, card.postprocessing, validation, "Keras")
    milliseconds = measure_milliseconds({name: runtimes[name] for name in CPU_PRECISIONS}, card.input)
    changes = {
        name: dice_scores(network, card.postprocessing, validation, name) - keras_dice
        for name, network in networks.items()
    }
    good = [precision for precision, change in changes.items() if is_as_good(change)]
    good_on_cpu = [precision for precision in CPU_PRECISIONS if precision in good]
    precision: CpuPrecision = min(good_on_cpu, key=lambda name: milliseconds[name]) if good_on_cpu else "float32"
    test_dice = dice_scores(networks[precision], card.postprocessing, test, "test")
    test_change = test_dice - dice_scores(keras_network, card.postprocessing, test, "test, Keras")
    precisions: dict[Precision, dict[str, float]] = {
        name: {"validation_dice_change": round(float(change.mean()), 5)} for name, change in changes.items()
    }
    for name, value in milliseconds.items():  # float16 runs on GPUs; its time on this CPU says nothing
        precisions[name]["milliseconds"] = value
    gpu_precision: GpuPrecision = "float16" if "float16" in good else "float32"
    return precision, gpu_precision, {"precisions": precisions, "test_dice_change": round(float(test_change.mean()), 5)}
