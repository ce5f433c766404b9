"""Choose what runs the network on an NVIDIA GPU: TensorRT or CUDA, as execution providers of ONNX Runtime."""

import ctypes
import logging
import os
from pathlib import Path

from service.inference.dynamic_batching import BATCH_SIZES
from service.inference.onnx_runtime import CPU, OnnxRuntime, Provider
from service.model.card import NETWORK_FILES, Precision
from service.resources.gpu_detection import gpu_name, has_gpu

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
TENSORRT_LIBRARY = "libnvinfer.so.10"
MAX_GPU_BYTES = 512 * 2**20  # of a network for one batch size, beside the CUDA context
log = logging.getLogger("bentoml.nervemask")


def open_gpu_runtimes(folder: Path, precision: Precision) -> dict[int, OnnxRuntime]:
    """Open the network of a model folder on the GPU, once for each of BATCH_SIZES.

    Return nothing without a GPU, and log why a GPU is not usable.
    """
    if gpu_name() is None:
        if has_gpu():
            log.warning("the CPU is used: the driver of the NVIDIA GPU does not start")
        return {}
    try:
        import onnxruntime
    except ImportError:
        log.warning("the CPU is used: there is an NVIDIA GPU but no onnxruntime-gpu; install nervemask[gpu]")
        return {}
    if CUDA not in onnxruntime.get_available_providers():
        log.warning("the CPU is used: onnxruntime is installed without CUDA; install nervemask[gpu] in its place")
        return {}
    onnxruntime.preload_dlls()  # finds CUDA and cuDNN in their wheels
    network = folder / NETWORK_FILES[precision]
    runtimes = {size: OnnxRuntime(network, precision, gpu_providers(network, precision)) for size in BATCH_SIZES}
    if runtimes[BATCH_SIZES[0]].provider == CPU:  # ONNX Runtime drops a provider that does not load, without an error
        log.warning("the CPU is used: onnxruntime cannot use the NVIDIA GPU; CUDA or cuDNN is missing")
        return {}
    return runtimes


def gpu_providers(network: Path, precision: Precision) -> list[Provider]:
    """Return the execution providers for a GPU: TensorRT where its library is installed, then CUDA, then the CPU."""
    cuda = {
        "gpu_mem_limit": str(MAX_GPU_BYTES),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",  # the default searches longer at the start
    }
    providers: list[Provider] = [(CUDA, cuda), CPU]
    try:
        ctypes.CDLL(TENSORRT_LIBRARY)
    except OSError:
        return providers
    height, width, _ = OnnxRuntime(network, precision, [CPU]).frame_shape
    sizes = {"min": BATCH_SIZES[0], "opt": BATCH_SIZES[-2], "max": BATCH_SIZES[-1]}
    tensorrt = {f"trt_profile_{name}_shapes": f"frame:{size}x{height}x{width}x1" for name, size in sizes.items()}
    tensorrt |= {"trt_max_workspace_size": str(MAX_GPU_BYTES), "trt_fp16_enable": str(precision == "float16")}
    if cache := os.environ.get("BENTOML_HOME"):  # TensorRT compiles the network for a minute, once
        tensorrt |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": cache}
    return [(TENSORRT, tensorrt), *providers]
