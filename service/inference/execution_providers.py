"""Choose what runs the network on an NVIDIA GPU: TensorRT or CUDA, as execution providers of ONNX Runtime."""

import ctypes
import logging
from pathlib import Path

from service.inference.onnx_runtime import CPU, OnnxRuntime, Provider
from service.model.card import NETWORK_FILES, Precision
from service.resources.machine import gpu_name

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
TENSORRT_LIBRARY = "libnvinfer.so.10"
MAX_GPU_BYTES = 512 * 2**20  # of one network, beside the CUDA context
log = logging.getLogger("bentoml.nervemask")


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
