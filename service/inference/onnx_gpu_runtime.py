"""Run the network on an NVIDIA GPU with ONNX Runtime."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from service.model.card import Precision
from service.resources.machine import gpu_name

GPU_PROVIDER = "CUDAExecutionProvider"
log = logging.getLogger("bentoml.nervemask")


class OnnxGpuRuntime:
    """A runtime on an NVIDIA GPU, always in float32. An ONNX Runtime session is thread-safe."""

    def __init__(self, session: Any):
        self.session = session
        self.precision: Precision = "float32"
        self.device = f"{gpu_name()} (onnxruntime, {session.get_providers()[0].removesuffix('ExecutionProvider')})"

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        mask, presence = self.session.run(["mask", "presence"], {"frame": batch})
        return mask, presence.reshape(-1)


def open_gpu_runtime(network: Path) -> OnnxGpuRuntime | None:
    """Open an ONNX file on the GPU. Return None without a usable GPU; if there is a GPU, log why it is not usable."""
    if gpu_name() is None:
        return None
    try:
        import onnxruntime
    except ImportError:
        log.warning("the CPU is used: there is an NVIDIA GPU but no onnxruntime-gpu; install nervemask[gpu]")
        return None
    onnxruntime.preload_dlls()  # finds CUDA and cuDNN in their wheels
    gpu_providers = [GPU_PROVIDER] if GPU_PROVIDER in onnxruntime.get_available_providers() else []
    session = onnxruntime.InferenceSession(str(network), providers=[*gpu_providers, "CPUExecutionProvider"])
    if session.get_providers()[0] != GPU_PROVIDER:  # ONNX Runtime drops a provider that does not load, without an error
        log.warning("the CPU is used: onnxruntime cannot use the NVIDIA GPU; CUDA or cuDNN is missing")
        return None
    return OnnxGpuRuntime(session)
