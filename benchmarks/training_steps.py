"""Cost of a training step: its time, its processor time and its page faults, without validation.

`python -m benchmarks.training_steps CANDIDATE EPOCHS` prints them as JSON.
"""

import json
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.sample_uploads import sample_frames
from training.data.prepared_arrays import FrameArrays
from training.fitting.trainer import keras, train
from training.workspace import nerve_parameters
from training.workspace.nerve_parameters import Candidate

TRAINING_FRAMES, VALIDATION_FRAMES = 64, 16
STEPS_PER_EPOCH = 10


@dataclass
class StepCost:
    """Of one training step. user_ms and system_ms count all threads."""

    wall_ms: float
    user_ms: float
    system_ms: float
    page_faults: float
    max_resident_mib: float = 0.0  # of the whole training
    steps: int = 0  # of an epoch
    gpu_mib: float | None = None  # of the whole training at most; None without a GPU


class StepMeter(keras.callbacks.Callback):
    """Measures each epoch from its begin to the end of its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[StepCost] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start, self.steps = _counters(), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self.end = _counters()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(StepCost(*((self.end - self.start) / self.steps).tolist()))


def _counters() -> np.ndarray:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter() * 1000, usage.ru_utime * 1000, usage.ru_stime * 1000, usage.ru_minflt])


def sample_arrays(candidate: Candidate) -> dict[str, FrameArrays]:
    """Return test frames at the candidate's input size, half of them with an ellipse as the nerve."""
    height, width = candidate.input.height, candidate.input.width
    nerve, vessel = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    cv2.ellipse(nerve, (width // 2, height // 2), (width // 8, height // 12), 20, 0, 360, 1, -1)
    cv2.circle(vessel, (width // 4, height // 3), height // 12, 1, -1)
    frames = np.stack(sample_frames(height, width)).astype(np.float32)
    frames = (frames - frames.mean()) / frames.std()

    def repeat(count: int) -> FrameArrays:
        masks = np.stack([np.stack([nerve * (index % 2), vessel], axis=-1) for index in range(count)])
        return FrameArrays(frames[np.arange(count) % len(frames)], masks)

    return {"train": repeat(TRAINING_FRAMES), "validation": repeat(VALIDATION_FRAMES)}


def measure_steps(name: str, epochs: int) -> StepCost:
    """Return the medians over the epochs after the first one, which builds the graph."""
    candidate = nerve_parameters.read_candidate(name)
    phases = [candidate.recipe.phases[0].model_copy(update={"epochs": epochs})]
    recipe = candidate.recipe.model_copy(update={"phases": phases, "steps_per_epoch": STEPS_PER_EPOCH})
    short = candidate.model_copy(update={"recipe": recipe})
    meter = StepMeter()
    train(short, sample_arrays(candidate), 1, [meter])
    rows = [asdict(cost) for cost in meter.epochs[1:]]
    fields = ("wall_ms", "user_ms", "system_ms", "page_faults")
    medians = {field: statistics.median(row[field] for row in rows) for field in fields}
    max_resident_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = {"max_resident_mib": max_resident_kib / 1024, "steps": meter.steps, "gpu_mib": _max_gpu_mib()}
    return StepCost(**{**medians, **whole})


def _max_gpu_mib() -> float | None:
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20)


def main() -> None:
    print(json.dumps(asdict(measure_steps(sys.argv[1], int(sys.argv[2])))))


if __name__ == "__main__":
    main()
