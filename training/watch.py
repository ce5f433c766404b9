"""What is seen of a net while it trains: a progress bar, and in MLflow its curves and predicted masks."""

import keras
import mlflow
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.pictures import grid, heat, outlined

SHOWN = 6  # validation frames in the picture of an epoch
PICTURES = 10  # pictures over a whole training


class Progress(keras.callbacks.Callback):
    """A bar over epochs with the latest loss, and what else of Keras' figures is named to be shown."""

    def __init__(self, name: str, epochs: int, shown: dict[str, str]):
        super().__init__()
        self.shown = {"loss": "loss", **shown}
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        self.bar = Bar(*columns)
        self.task = self.bar.add_task(name, total=epochs, figures="")

    def on_train_begin(self, logs=None) -> None:
        self.bar.start()

    def on_epoch_end(self, epoch, logs=None) -> None:
        figures = "  ".join(f"{said} {logs[name]:.3f}" for said, name in self.shown.items())
        self.bar.update(self.task, completed=epoch + 1, figures=figures)

    def on_train_end(self, logs=None) -> None:
        self.bar.stop()


class Curves(keras.callbacks.Callback):
    """Each epoch's figures to the active MLflow run, under Keras' names, "val" replaced by the frames' side; without
    one, the training frames' alone.

    Of several trainings, one after another.
    """

    def __init__(self, side: str | None = "val"):
        super().__init__()
        self.side, self.step = side, 0

    def on_epoch_end(self, epoch, logs=None) -> None:
        named = {
            name.replace("val_", f"{self.side}_"): float(value)
            for name, value in logs.items()
            if self.side or not name.startswith("val_")
        }
        mlflow.log_metrics(named, step=self.step)
        self.step += 1


class Masks(keras.callbacks.Callback):
    """Now and then, a picture of the same validation frames with truth and prediction, to compare over epochs.

    frames: float32 (N, height, width), normalised. masks: uint8 (N, height, width, C), nerve first.
    """

    def __init__(self, frames: np.ndarray, masks: np.ndarray):
        super().__init__()
        # All but one with a nerve: an empty truth shows little.
        holds = masks[..., 0].any(axis=(1, 2))
        chosen = np.concatenate([_spread(np.flatnonzero(holds), SHOWN - 1), _spread(np.flatnonzero(~holds), 1)])
        self.frames, self.truth = frames[chosen], masks[chosen, ..., 0]

    def on_epoch_end(self, epoch, logs=None) -> None:
        every = max(1, self.params["epochs"] // PICTURES)
        if epoch % every and epoch + 1 != self.params["epochs"]:
            return
        predicted = self.model(self.frames[..., np.newaxis], training=False)
        probability = keras.ops.convert_to_numpy(predicted["mask"])[..., 0]
        rows = [
            [outlined(frame, truth=truth > 0), outlined(frame, mask=mask >= 0.5), heat(mask)]
            for frame, truth, mask in zip(self.frames, self.truth, probability, strict=True)
        ]
        mlflow.log_image(grid(rows), key="validation masks", step=epoch)


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the indices, evenly apart."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).astype(int))] if len(indices) else indices
