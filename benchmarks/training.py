"""Training steps: against the machine's peak, by memory allocator, by data.

The difference between real and constant data is the time in which the network waits for frames.
"""

import statistics
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

from benchmarks import training_memory, training_roofline
from benchmarks.report import table
from benchmarks.training_steps import measure_steps
from training.fitting.batches import TrainingBatches
from training.fitting.devices import choose_dtype_policy
from training.workspace import nerve_parameters

TITLE = "Training steps: against the machine's peak, by memory allocator, by data"
ROUNDS = 2
EPOCHS = 3
REAL_DATA, CONSTANT_DATA, FLOAT32 = "real_data_ms", "constant_data_ms", "float32_ms"


def measure() -> dict[str, Any]:
    candidates = nerve_parameters.read_nerve_parameters().candidates
    return {
        "roofline": training_roofline.measure(candidates),
        "allocators": training_memory.measure(candidates),
        "steps": [_measure_data(name) for name in candidates],
    }


def _measure_data(name: str) -> dict[str, Any]:
    conditions = {REAL_DATA: nullcontext, CONSTANT_DATA: _constant_data}
    if choose_dtype_policy() != "float32":
        conditions[FLOAT32] = _float32
    rounds = [{key: _wall_ms(name, condition()) for key, condition in conditions.items()} for _ in range(ROUNDS)]
    medians = {key: round(statistics.median(times[key] for times in rounds), 1) for key in conditions}
    return {"network": name} | medians


def _wall_ms(name: str, condition: AbstractContextManager[Any]) -> float:
    with condition:
        return measure_steps(name, EPOCHS).wall_ms


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
    return patch("training.fitting.trainer.choose_dtype_policy", return_value="float32")


def to_markdown(figures: dict[str, Any]) -> str:
    step_rows = [
        row
        | {
            FLOAT32: row.get(FLOAT32, ""),
            "waiting for data": f"{row[REAL_DATA] / row[CONSTANT_DATA] - 1:+.1%}",
            "speed-up against float32": f"{row[FLOAT32] / row[REAL_DATA]:.2f}" if FLOAT32 in row else "",
        }
        for row in figures["steps"]
    ]
    return (
        f"### Against the machine's peak\n\n{training_roofline.to_markdown(figures['roofline'])}\n\n"
        "### By setting of glibc's malloc\n\n"
        f"Of one step: medians over {training_memory.EPOCHS - 1} epochs. User and system time count all threads.\n\n"
        f"{table(figures['allocators'])}\n\n### By data\n\n"
        f"Milliseconds per step: median over {EPOCHS - 1} epochs, then over {ROUNDS} alternating rounds.\n\n"
        f"{table(step_rows)}"
    )
