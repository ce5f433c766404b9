"""Training steps: with real data, with constant data, and in float32.

The difference between real and constant data is the time in which the network waits for frames. Only candidates with
prepared arrays are measured.
"""

import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import keras

from benchmarks.report import table
from training.data.prepared_arrays import read_split_arrays
from training.fitting.batches import TrainingBatches
from training.fitting.trainer import train
from training.workspace import parameters, paths

TITLE = "Training steps: with real data, with constant data, and in float32"
ROUNDS = 3
EPOCHS = 5  # the first one builds the graph and is not counted
REAL_DATA, CONSTANT_DATA, FLOAT32 = "real_data_ms", "constant_data_ms", "float32_ms"


def measure() -> list[dict[str, Any]]:
    rows = []
    candidates = parameters.read_nerve_parameters().candidates
    for name in (name for name in candidates if (paths.PREPARED / name).exists()):
        conditions = {REAL_DATA: nullcontext, CONSTANT_DATA: _constant_data}
        if not parameters.read_candidate(name).net.encoder:  # a network with an encoder trains in float32 anyway
            conditions[FLOAT32] = _float32
        rounds = [{key: _step_ms(name, condition()) for key, condition in conditions.items()} for _ in range(ROUNDS)]
        medians = {key: round(statistics.median(times[key] for times in rounds), 1) for key in conditions}
        rows.append({"network": name} | medians)
    return rows


def _constant_data() -> AbstractContextManager[Any]:
    """Return a patch: every batch is the first one."""
    first_batch: list[Any] = []
    make_batch = TrainingBatches.__getitem__

    def get_first(batches: TrainingBatches, index: int) -> Any:
        if not first_batch:
            first_batch.append(make_batch(batches, index))
        return first_batch[0]

    return patch.object(TrainingBatches, "__getitem__", get_first)


def _float32() -> AbstractContextManager[Any]:
    return patch("training.fitting.trainer.fastest_dtype_policy", return_value="float32")


def _step_ms(name: str, condition: AbstractContextManager[Any]) -> float:
    """Return the milliseconds per training step without validation: the median over the epochs."""

    class StepTimer(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.epochs_ms: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start, self.steps = time.perf_counter(), 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.end, self.steps = time.perf_counter(), self.steps + 1

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs_ms.append((self.end - self.start) * 1000 / self.steps)

    candidate = parameters.read_candidate(name)
    phases = [candidate.recipe.phases[0].model_copy(update={"epochs": EPOCHS})]
    short = candidate.model_copy(update={"recipe": candidate.recipe.model_copy(update={"phases": phases})})
    timer = StepTimer()
    with condition:
        train(short, read_split_arrays(paths.PREPARED / name), 1, [timer])
    return statistics.median(timer.epochs_ms[1:])


def to_markdown(rows: list[dict[str, Any]]) -> str:
    table_rows = [
        row
        | {
            FLOAT32: row.get(FLOAT32, ""),
            "waiting for data": f"{row[REAL_DATA] / row[CONSTANT_DATA] - 1:+.1%}",
            "speed-up against float32": f"{row[FLOAT32] / row[REAL_DATA]:.2f}" if FLOAT32 in row else "",
        }
        for row in rows
    ]
    return (
        f"Milliseconds per step: median over {EPOCHS - 1} epochs, then over {ROUNDS} alternating rounds.\n\n"
        f"{table(table_rows)}"
    )
