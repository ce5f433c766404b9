"""Open the fastest runtime that this machine supports."""

import logging
from pathlib import Path

from service.inference.dynamic_batching import DynamicBatchingRuntime
from service.inference.execution_providers import open_gpu_runtime
from service.inference.openvino_runtime import OpenVinoRuntime
from service.inference.runtime_interface import Runtime
from service.inference.tta import with_tta
from service.model.card import NETWORK_FILES, GpuPrecision, Precision, Tta

log = logging.getLogger("bentoml.nervemask")  # BentoML shows the loggers below its own


def open_runtime(
    folder: Path, precision: Precision = "float32", gpu_precision: GpuPrecision = "float32", tta: Tta = "none"
) -> Runtime:
    """Open the network of a model folder on the GPU, or on the CPU if there is no usable GPU. Log the device.

    precision, gpu_precision: number formats on a CPU and on a GPU.
    tta: test-time augmentation.
    """
    gpu_runtime = open_gpu_runtime(folder, gpu_precision)
    runtime: Runtime = DynamicBatchingRuntime(gpu_runtime) if gpu_runtime else open_cpu_runtime(folder, precision)
    log.info("the network runs on %s", runtime.device)
    return with_tta(runtime, tta)


def open_cpu_runtime(folder: Path, precision: Precision) -> OpenVinoRuntime:
    """Open the network of a model folder on the CPU in this precision, without test-time augmentation."""
    return OpenVinoRuntime(folder / NETWORK_FILES[precision], precision)
