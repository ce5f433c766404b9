"""Keras callbacks: a progress bar, and metrics of each epoch for MLflow."""

import time
from datetime import timedelta

import keras
import mlflow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar(keras.callbacks.Callback):
    """A progress bar over epochs with the latest metrics; where the output is not a terminal, a line for each epoch.

    title: the text before the bar.
    metrics: Keras metric names by their label in the bar; the loss is always shown.
    """

    def __init__(self, title: str, epochs: int, metrics: dict[str, str]):
        super().__init__()
        self.title, self.epochs, self.metrics = title, epochs, {"loss": "loss", **metrics}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not Console().is_terminal,
        )
        self.task = self.progress.add_task(title, total=epochs, metrics="")

    def on_train_begin(self, logs=None) -> None:
        self.start = time.monotonic()
        self.progress.start()

    def on_epoch_end(self, epoch, logs=None) -> None:
        metrics = "  ".join(f"{label} {logs[name]:.3f}" for label, name in self.metrics.items())
        self.progress.update(self.task, completed=epoch + 1, metrics=metrics)
        if self.progress.disable:
            elapsed = time.monotonic() - self.start
            left = elapsed / (epoch + 1) * (self.epochs - epoch - 1)
            times = f"{timedelta(seconds=round(elapsed))} elapsed, at most {timedelta(seconds=round(left))} left"
            print(f"{self.title}  epoch {epoch + 1}/{self.epochs}  {metrics}  {times}", flush=True)

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
