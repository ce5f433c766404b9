"""Keras callbacks: a progress bar, and metrics of each epoch for MLflow."""

import keras
import mlflow
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar(keras.callbacks.Callback):
    """A progress bar over epochs with the latest metrics.

    title: the text before the bar.
    metrics: Keras metric names by their label in the bar; the loss is always shown.
    """

    def __init__(self, title: str, epochs: int, metrics: dict[str, str]):
        super().__init__()
        self.metrics = {"loss": "loss", **metrics}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task(title, total=epochs, metrics="")

    def on_train_begin(self, logs=None) -> None:
        self.progress.start()

    def on_epoch_end(self, epoch, logs=None) -> None:
        metrics = "  ".join(f"{label} {logs[name]:.3f}" for label, name in self.metrics.items())
        self.progress.update(self.task, completed=epoch + 1, metrics=metrics)

    def on_train_end(self, logs=None) -> None:
        self.progress.stop()


class MlflowMetrics(keras.callbacks.Callback):
    """Log the metrics of each epoch to the active MLflow run.

    Several trainings with one callback continue each other's steps.

    validation_prefix: replaces "val" in Keras' metric names. None: log the metrics of training frames only.
    """

    def __init__(self, validation_prefix: str | None = "val"):
        super().__init__()
        self.validation_prefix, self.step = validation_prefix, 0

    def on_epoch_end(self, epoch, logs=None) -> None:
        metrics = {
            name.replace("val_", f"{self.validation_prefix}_"): float(value)
            for name, value in logs.items()
            if self.validation_prefix or not name.startswith("val_")
        }
        mlflow.log_metrics(metrics, step=self.step)
        self.step += 1
