"""Two BentoML services with the same network and the same HTTP route, for `benchmarks.batching`.

A stub replaces the network, so a request costs the overhead of the design.
"""

import bentoml
import numpy as np

from benchmarks.batching import FRAME_SHAPE, WORKERS
from service.model.card import Precision

THREADS = 16


def run_network(frames: np.ndarray) -> np.ndarray:
    """Return float32 (N, height, width, 1) of the same shape."""
    return frames * np.float32(0.5)


class _Network:
    """What DynamicBatchingRuntime needs of a runtime."""

    device = "none"
    precision: Precision = "float32"
    frame_shape: tuple[int, ...] = FRAME_SHAPE

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        return run_network(batch), np.zeros(len(batch), np.float32)


@bentoml.service(workers=1, threads=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class NetworkService:
    """The network in a process of its own, with BentoML's adaptive batching."""

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, frames: np.ndarray) -> np.ndarray:
        return run_network(frames)


@bentoml.service(workers=WORKERS, threads=THREADS, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class AdaptiveBatching:
    """API workers that send each frame to NetworkService."""

    network = bentoml.depends(NetworkService)

    @bentoml.api(route="/predict")
    def predict(self, seed: int) -> float:
        frame = np.full((1, *FRAME_SHAPE), seed, np.float32)
        return float(np.asarray(self.network.predict(frame))[0, 0, 0, 0])


@bentoml.service(workers=WORKERS, threads=THREADS, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class DynamicBatching:
    """Workers with a network each, and this project's dynamic batching."""

    def __init__(self) -> None:
        from service.inference.dynamic_batching import BATCH_SIZES, DynamicBatchingRuntime

        self.network = DynamicBatchingRuntime(dict.fromkeys(BATCH_SIZES, _Network()))

    @bentoml.api(route="/predict")
    def predict(self, seed: int) -> float:
        frame = np.full((1, *FRAME_SHAPE), seed, np.float32)
        return float(self.network(frame)[0][0, 0, 0, 0])
