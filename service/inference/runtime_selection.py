"""Open the fastest runtime that this machine supports."""

import logging
from pathlib import Path

from service.inference.dynamic_batching import DynamicBatchingRuntime
from service.inference.gpu_runtimes import open_gpu_runtimes
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
    runtime: Runtime = _open_batching_gpu_runtime(folder, gpu_precision) or open_cpu_runtime(folder, precision)
    log.info("the network runs on %s", runtime.device)
    return with_tta(runtime, tta)


def _open_batching_gpu_runtime(folder: Path, precision: GpuPrecision) -> DynamicBatchingRuntime | None:
    try:
        runtimes = open_gpu_runtimes(folder, precision)
        return DynamicBatchingRuntime(runtimes) if runtimes else None
    except Exception as error:  # the GPU's memory is full, for example; ONNX Runtime has exceptions of its own
        log.error("the CPU is used: the network does not run on the NVIDIA GPU: %s", error)
        return None


def open_cpu_runtime(folder: Path, precision: Precision) -> OpenVinoRuntime:
    """Open the network of a model folder on the CPU in this precision, without test-time augmentation."""
    return OpenVinoRuntime(folder / NETWORK_FILES[precision], precision)
