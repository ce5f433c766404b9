"""Run the network on a CPU with OpenVINO."""

import queue
import time
from pathlib import Path
from typing import Any

import numpy as np

from service.model.card import Precision
from service.resources.container_limits import cpu_cores

TIMED_CALLS = 10
MAX_ALL_CORES_TIME = 0.75  # of the time on one core
RequestPool = queue.SimpleQueue[Any]  # of openvino.InferRequest


class OpenVinoRuntime:
    """A runtime on the CPU.

    A single frame gets all cores, if the network is then clearly faster: idle threads spin and take cores from other
    work. Concurrent frames get one core each, which gives a higher throughput. An infer
    request serves one thread at a time, so each of the two pools holds one request per core.
    """

    def __init__(self, network: Path, precision: Precision):
        import openvino

        self.precision = precision
        self.device = f"CPU, {cpu_cores()} cores (openvino {openvino.__version__.split('-')[0]}, {precision})"
        core = openvino.Core()
        model = core.read_model(network)
        # For int8 this sets the precision of the layers that are not quantised. Without bfloat16 support, the CPU would
        # emulate it.
        bfloat16 = precision in ("bfloat16", "int8") and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": cpu_cores(),
            # With pinning, every worker process would pin its threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self.all_cores_pool = _request_pool(core.compile_model(model, "CPU", properties | {"NUM_STREAMS": 1}))
        self.one_core_pool = _request_pool(core.compile_model(model, "CPU", properties | {"NUM_STREAMS": cpu_cores()}))
        # OpenVINO's binding initialises itself at the first inference. Two threads that start it at the same time
        # deadlock, one with Python's lock and one with the binding's (openvino 2026.4.0). So run it once here.
        zeros = np.zeros([side.min_length or 1 for side in model.input("frame").partial_shape], np.float32)
        pools = (self.one_core_pool, self.all_cores_pool)
        rounds = [[self._time_ms(zeros, pool) for pool in pools] for _ in range(TIMED_CALLS)]
        one_core_ms, all_cores_ms = map(min, zip(*rounds, strict=True))  # the least: another worker may start beside
        if all_cores_ms > MAX_ALL_CORES_TIME * one_core_ms:
            self.all_cores_pool = self.one_core_pool

    def _time_ms(self, batch: np.ndarray, pool: RequestPool) -> float:
        start = time.perf_counter()
        self._run(batch, pool)
        return (time.perf_counter() - start) * 1000

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        return self._run(batch, self.all_cores_pool if all_cores else self.one_core_pool)

    def _run(self, batch: np.ndarray, pool: RequestPool) -> tuple[np.ndarray, np.ndarray]:
        request = pool.get()
        try:
            outputs = request.infer({"frame": batch})
            # Copy: the next inference overwrites the request's memory.
            return outputs["mask"].copy(), outputs["presence"].reshape(-1).copy()
        finally:
            pool.put(request)


def _request_pool(compiled_model: Any) -> RequestPool:
    pool: RequestPool = queue.SimpleQueue()
    for _ in range(cpu_cores()):
        pool.put(compiled_model.create_infer_request())
    return pool
