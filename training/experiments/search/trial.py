"""One trial of the stage search, in a process that Ray Tune starts."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import keras
import mlflow
from ray import tune

from training.experiments.fold_training import train_on_fold
from training.experiments.folds import rows_of_fold
from training.experiments.ray_trainings import enter_project
from training.experiments.search.parameters import Search, with_values
from training.workspace import nerve_parameters, tracking
from training.workspace.nerve_parameters import Candidate
from training.workspace.parameter_validation import validate_section

EXPERIMENT = "search"
METRIC = "val_mask_dice"


def run_trial(
    config: dict[str, Any], project: str, environment: dict[str, str], parent_run: str, search: dict[str, Any]
) -> None:
    """Train the base candidate with the values of a trial. Report each epoch to Ray Tune, and to MLflow."""
    enter_project(Path(project), environment)
    section = Search.model_validate(search)
    candidate = validate_section(Candidate, with_values(section, config), "nerve.search.space")
    tracking.use_experiment(EXPERIMENT)
    name = tune.get_context().get_trial_name()
    with (
        mlflow.start_run(
            run_name=name,
            tags=tracking.run_tags(nerve_parameters.read_nerve_parameters().source),
            parent_run_id=parent_run,
        ),
        tempfile.TemporaryDirectory() as folder,
    ):
        mlflow.log_params(config)
        callbacks = [ReportEpoch()]
        with contextlib.suppress(SystemExit):  # Ray Tune stops the trial so, and the run has not failed
            train_on_fold(candidate, rows_of_fold(section.fold), section.seed, Path(folder), callbacks)


class ReportEpoch(keras.callbacks.Callback):
    """Reports the best validation Dice so far, with which Ray Tune compares trials, and logs each epoch to MLflow."""

    def __init__(self) -> None:
        super().__init__()
        self.best = 0.0

    def on_epoch_end(self, epoch, logs=None) -> None:
        dice = float(logs[METRIC])
        self.best = max(self.best, dice)
        mlflow.log_metrics({METRIC: dice, "loss": float(logs["loss"])}, step=epoch)
        tune.report({METRIC: self.best, "epoch": epoch + 1})
