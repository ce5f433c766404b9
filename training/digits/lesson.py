"""Stage lesson: run one step of the lecture; write its picture and its metrics; log a family of MLflow runs.

`python -m training.digits.lesson NAME` writes picture.png and metrics.json to reports/digits/NAME.

A lesson is a module of this package with three functions:
  trials(training, test, **entry)  the trials to compare, by name; `entry` is the lesson's entry in `digits.lessons`
  metrics(results)                 the lesson's metrics, as `Metrics`
  draw(results, figure)            draws the lesson's picture
`results` holds the table that each trial returned, by the trial's name, in the order of the trials.
"""

import json
import math
import sys
from importlib import import_module

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from training.data.sources.mnist import read_digits
from training.digits.trial import Metrics, Trial
from training.workspace import digits_parameters, paths, tracking
from training.workspace.output_checksums import output_folder
from training.workspace.tensorflow_import import import_tensorflow

EXPERIMENT = "lessons"


def run_trial(name: str, trial: Trial, tags: dict[str, str]) -> pd.DataFrame:
    """Run a trial as a child of the active MLflow run; returns the trial's table."""
    with mlflow.start_run(run_name=name, nested=True, tags=tags):
        mlflow.log_params(tracking.flatten(trial.parameters))
        table = trial.run()
        for epoch, row in enumerate(table.to_dict("records")):
            numbers = {str(metric): value for metric, value in row.items() if not math.isnan(value)}
            mlflow.log_metrics(numbers, step=epoch)
    return table


def main(name: str) -> None:
    import_tensorflow()
    lesson, entry = import_module(f"training.digits.{name}"), digits_parameters.read_digits_parameters().lessons[name]
    trials = lesson.trials(*read_digits(paths.MNIST), **entry)
    tracking.use_experiment(EXPERIMENT)
    tags = tracking.run_tags("mnist", paths.MNIST.as_posix()) | {"lesson": name}
    with (
        output_folder(paths.DIGITS / name) as folder,
        mlflow.start_run(run_name=name, description=lesson.__doc__, tags=tags),
    ):
        mlflow.log_params(tracking.flatten(entry))
        results = {trial: run_trial(trial, trials[trial], tags) for trial in track(trials, name)}
        metrics: Metrics = lesson.metrics(results)
        mlflow.log_metrics(
            {f"{metric}/{variant}": value for metric, values in metrics.items() for variant, value in values.items()}
        )
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        lesson.draw(results, figure)
        figure.savefig(folder / "picture.png", dpi=100, metadata={"Software": None})
        mlflow.log_artifact(str(folder / "picture.png"))


if __name__ == "__main__":
    main(sys.argv[1])
