"""The network, fast: OpenVINO on a CPU, onnxruntime on an NVIDIA GPU. Both may be asked from several threads."""

import ctypes
import logging
import queue
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from service.card import NETWORK, NETWORKS, Precision
from service.machine import cores

# BentoML shows what is logged below its own name.
log = logging.getLogger("bentoml.nervemask")

GPU_PROVIDER = "CUDAExecutionProvider"


class Runtime(Protocol):
    """A network that is ready to run. device: what it runs on, for people. precision: what it computes in."""

    device: str
    precision: Precision

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """float32 (N, H, W, 1), normalised, to the mask's probabilities float32 (N, H, W, 1) and presence (N,).

        alone: nothing else is being computed, so that all cores may help.
        """
        ...


def open_runtime(folder: Path, precision: Precision = "float32", mirrored: bool = False) -> Runtime:
    """The fastest runtime this machine has for a folder's network; says in the log which.

    precision: what a CPU computes in. A GPU takes the ONNX file in float32. mirrored: as `Mirrored`.
    """
    runtime = _on_gpu(folder / NETWORK) or on_cpu(folder, precision)
    log.info("the network runs on %s", runtime.device)
    return as_asked(runtime, mirrored)


def as_asked(runtime: Runtime, mirrored: bool) -> Runtime:
    """The runtime, asked twice where `mirrored`."""
    return Mirrored(runtime) if mirrored else runtime


class Mirrored:
    """A network that is asked twice, once left for right, for the mean of both answers: either side of a body is the
    other's mirror image, and errors of one answer are seldom those of the other."""

    def __init__(self, runtime: Runtime):
        self.runtime, self.device, self.precision = runtime, runtime.device, runtime.precision

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        both, presences = self.runtime(np.concatenate([batch, batch[:, :, ::-1]]), alone)
        (mask, other), (presence, other_presence) = np.split(both, 2), np.split(presences, 2)
        return (mask + other[:, :, ::-1]) / 2, (presence + other_presence) / 2


def on_cpu(folder: Path, precision: Precision) -> "OpenVino":
    """The folder's network on the CPU, in this precision."""
    return OpenVino(folder / NETWORKS[precision], precision)


def gpu_name() -> str | None:
    """The first NVIDIA GPU that this process sees, by the driver's own name; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    name = ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGetName(name, len(name), 0):
        return None
    return name.value.decode()


class OpenVino:
    """On the CPU. A frame alone gets all cores; of several at once each gets one, which gets more of them done.

    An infer request serves one thread at a time: as many as there are cores wait in each pool.
    """

    def __init__(self, network: Path, precision: Precision):
        import openvino

        self.precision = precision
        core = openvino.Core()
        model = core.read_model(network)
        # In an int8 network this is of the layers that stayed floating. A CPU without bfloat16 would emulate it.
        reduced = precision != "float32" and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if reduced else "f32",
            "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # every worker would pin its threads to the same cores, the others idle
        }

        def requests(streams: int) -> queue.SimpleQueue[Any]:
            compiled = core.compile_model(model, "CPU", settings | {"NUM_STREAMS": streams})
            pool: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(cores()):
                pool.put(compiled.create_infer_request())
            return pool

        self.alone, self.together = requests(1), requests(cores())
        self.device = f"CPU, {cores()} cores (openvino {openvino.__version__.split('-')[0]}, {precision})"
        # Once, from one thread: openvino's binding sets itself up at the first frame, and two threads that meet there
        # wait for each other for ever, one with Python's lock and one with the binding's (2026.4.0).
        first = np.zeros([side.min_length or 1 for side in model.input("frame").partial_shape], np.float32)
        for alone in (True, False):
            self(first, alone)

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        pool = self.alone if alone else self.together
        request = pool.get()
        try:
            answer = request.infer({"frame": batch})
            # Copied: the request's own memory is overwritten by the next frame.
            return answer["mask"].copy(), answer["presence"].reshape(-1).copy()
        finally:
            pool.put(request)


class OnnxRuntime:
    """On an NVIDIA GPU. A session may be run from several threads."""

    def __init__(self, session: Any):
        self.session = session
        self.precision: Precision = "float32"
        self.device = f"{gpu_name()} (onnxruntime, {session.get_providers()[0].removesuffix('ExecutionProvider')})"

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        mask, presence = self.session.run(["mask", "presence"], {"frame": batch})
        return mask, presence.reshape(-1)


def _on_gpu(network: Path) -> OnnxRuntime | None:
    """None where there is no GPU, or none that the installed onnxruntime can use: then the log says why."""
    if gpu_name() is None:
        return None
    try:
        import onnxruntime
    except ImportError:
        log.warning("there is an NVIDIA GPU, but no onnxruntime-gpu: install nervemask[gpu] to use it")
        return None
    onnxruntime.preload_dlls()  # CUDA and cuDNN, where they came as wheels
    wanted = [GPU_PROVIDER] if GPU_PROVIDER in onnxruntime.get_available_providers() else []
    session = onnxruntime.InferenceSession(str(network), providers=[*wanted, "CPUExecutionProvider"])
    # A provider that fails to load is dropped in silence.
    if session.get_providers()[0] != GPU_PROVIDER:
        log.warning("onnxruntime cannot use the NVIDIA GPU (CUDA or cuDNN is missing): the CPU is used")
        return None
    return OnnxRuntime(session)
