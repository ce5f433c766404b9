"""Run the network with ONNX Runtime: on an NVIDIA GPU, or on a CPU to measure float16 and to test without a GPU."""

import ctypes
import logging
from pathlib import Path
from typing import Any

import numpy as np

from service.model.card import NETWORK_FILES, Precision
from service.resources.machine import gpu_name

Provider = str | tuple[str, dict[str, Any]]  # an execution provider of ONNX Runtime, with its options
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
TENSORRT_LIBRARY = "libnvinfer.so.10"
MAX_GPU_BYTES = 512 * 2**20  # of one network, beside the CUDA context
log = logging.getLogger("bentoml.nervemask")


class OnnxRuntime:
    """A runtime of ONNX Runtime. A session is thread-safe.

    network: an ONNX file. precision: its number format. providers: from the preferred one.
    frame_shape: of the network's input for one frame, (height, width, 1).
    """

    def __init__(self, network: Path, precision: Precision, providers: list[Provider]):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if _name(providers[0]) != CPU:  # idle threads of each worker would wait in loops for work on the CPU
            options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(network), options, providers=providers)
        self.frame_shape = tuple(self.session.get_inputs()[0].shape[1:])
        self.precision = precision
        self.provider = self.session.get_providers()[0]
        processor = "CPU" if self.provider == CPU else gpu_name()
        library = f"onnxruntime {onnxruntime.__version__}, {self.provider.removesuffix('ExecutionProvider')}"
        self.device = f"{processor} ({library}, {precision})"

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        mask, presence = self.session.run(["mask", "presence"], {"frame": batch})
        return mask, presence.reshape(-1)


def open_gpu_runtime(folder: Path, precision: Precision) -> OnnxRuntime | None:
    """Open the network of a model folder on the GPU. Return None without a GPU, and log why a GPU is not usable."""
    if gpu_name() is None:
        return None
    try:
        import onnxruntime
    except ImportError:
        log.warning("the CPU is used: there is an NVIDIA GPU but no onnxruntime-gpu; install nervemask[gpu]")
        return None
    if CUDA not in onnxruntime.get_available_providers():
        log.warning("the CPU is used: onnxruntime is installed without CUDA; install nervemask[gpu] in its place")
        return None
    onnxruntime.preload_dlls()  # finds CUDA and cuDNN in their wheels
    runtime = OnnxRuntime(folder / NETWORK_FILES[precision], precision, gpu_providers(precision))
    if runtime.provider == CPU:  # ONNX Runtime drops a provider that does not load, without an error
        log.warning("the CPU is used: onnxruntime cannot use the NVIDIA GPU; CUDA or cuDNN is missing")
        return None
    return runtime


def gpu_providers(precision: Precision) -> list[Provider]:
    """Return the execution providers for a GPU: TensorRT where its library is installed, then CUDA, then the CPU."""
    cuda = {
        "gpu_mem_limit": MAX_GPU_BYTES,
        "arena_extend_strategy": "kSameAsRequested",
        # The default tries all algorithms at the first batch of each size: the start would take longer.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    providers: list[Provider] = [(CUDA, cuda), CPU]
    try:
        ctypes.CDLL(TENSORRT_LIBRARY)
    except OSError:
        return providers
    tensorrt = {"trt_max_workspace_size": MAX_GPU_BYTES, "trt_fp16_enable": precision == "float16"}
    return [(TENSORRT, tensorrt), *providers]


def _name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]
