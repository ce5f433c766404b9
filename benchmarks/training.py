"""Training: a step beside one whose data is held constant, and beside one in float32.

What the first takes longer is time that the network waited for its frames. Of the race, those that are prepared.
"""

import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

from benchmarks.report import table
from training import parameters
from training.prepare import PREPARED, read_sides
from training.quiet import import_tensorflow

ROUNDS = 3
EPOCHS = 5  # the first makes the graph
AS_IT_IS, HELD, FLOAT32 = "as it trains", "data held constant", "in float32"


def measure() -> list[dict[str, Any]]:
    import_tensorflow()
    rows = []
    for net in (net for net in parameters.nerve().race if (PREPARED / net).exists()):
        ways = {AS_IT_IS: nullcontext, HELD: _held}
        if not parameters.candidate(net).net.encoder:  # which trains in float32 anyway
            ways[FLOAT32] = _float32
        rounds = [{way: _step_ms(net, held()) for way, held in ways.items()} for _ in range(ROUNDS)]
        rows.append({"net": net} | {way: round(statistics.median(of[way] for of in rounds), 1) for way in ways})
    return rows


def _held() -> AbstractContextManager[Any]:
    """Every batch is the first one that was made."""
    from training.augment import Batches

    made: list[Any] = []
    make = Batches.__getitem__

    def first(batches: Batches, index: int) -> Any:
        if not made:
            made.append(make(batches, index))
        return made[0]

    return patch.object(Batches, "__getitem__", first)


def _float32() -> AbstractContextManager[Any]:
    return patch("training.train_unet.precision", return_value="float32")


def _step_ms(net: str, way: AbstractContextManager[Any]) -> float:
    """Milliseconds a step: of an epoch's steps without its validation, the median over epochs."""
    import keras

    from training.train_unet import train

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.epochs: list[float] = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start, self.steps = time.perf_counter(), 0

        def on_train_batch_end(self, batch, logs=None):
            self.end, self.steps = time.perf_counter(), self.steps + 1

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append((self.end - self.start) * 1000 / self.steps)

    candidate = parameters.candidate(net)
    phases = [candidate.recipe.phases[0].model_copy(update={"epochs": EPOCHS})]
    clock = Clock()
    with way:
        short = candidate.model_copy(update={"recipe": candidate.recipe.model_copy(update={"phases": phases})})
        train(short, read_sides(PREPARED / net), 1, [clock])
    return statistics.median(clock.epochs[1:])


def tell(rows: list[dict[str, Any]]) -> str:
    told = [
        row
        | {
            FLOAT32: row.get(FLOAT32, ""),
            "waiting for data": f"{row[AS_IT_IS] / row[HELD] - 1:+.1%}",
            "times faster than in float32": f"{row[FLOAT32] / row[AS_IT_IS]:.2f}" if FLOAT32 in row else "",
        }
        for row in rows
    ]
    return f"Milliseconds a step, median of {EPOCHS - 1} epochs in each of {ROUNDS} rounds in turns.\n\n{table(told)}"
