"""Stage lesson: one of the lecture's steps, seen: a picture, figures, and a family of MLflow runs.

`python -m training.digits.lesson NAME` writes reports/digits/NAME: picture.png, metrics.json.

A lesson is a module of this package with three functions:
  trials(training, test, **given)  what is compared, by name; `given` is its entry in `digits.lessons`
  figures(seen)                    what was found, as `Figures`
  draw(seen, figure)               the same as a picture
where `seen` holds what each trial gave back, in their order.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from training import parameters, tracking
from training.quiet import import_tensorflow
from training.sources.mnist import MNIST, read
from training.whole import whole

Figures = dict[str, dict[str, float]]  # a figure's name -> what it is of -> the number

EXPERIMENT = "lessons"
REPORTS = Path("reports/digits")


@dataclass(frozen=True)
class Trial:
    """One of the things a lesson compares: what sets it apart, and how to run it.

    run gives back what was seen: a row an epoch (one row where nothing is trained), a column a figure.
    """

    varied: dict[str, Any]
    run: Callable[[], pd.DataFrame]


def by_kind(seen: dict[str, pd.DataFrame]) -> dict[str, list[pd.DataFrame]]:
    """Of trials named "KIND, seed SEED", what was seen of each kind, one a seed."""
    found: dict[str, list[pd.DataFrame]] = {}
    for name, curves in seen.items():
        found.setdefault(name.split(", seed")[0], []).append(curves)
    return found


def watched(name: str, trial: Trial, tags: dict[str, str]) -> pd.DataFrame:
    """Run a trial as a child of the active MLflow run."""
    import mlflow

    with mlflow.start_run(run_name=name, nested=True, tags=tags):
        mlflow.log_params(tracking.flat(trial.varied))
        seen = trial.run()
        for epoch, figures in enumerate(seen.to_dict("records")):
            mlflow.log_metrics({str(name): x for name, x in figures.items() if not math.isnan(x)}, step=epoch)
    return seen


def main(name: str) -> None:
    import_tensorflow()
    import mlflow

    lesson, given = import_module(f"training.digits.{name}"), parameters.digits().lessons[name]
    trials = lesson.trials(*read(MNIST), **given)
    tracking.store(EXPERIMENT)
    tags = tracking.tags("mnist", MNIST.as_posix()) | {"lesson": name}
    with whole(REPORTS / name) as folder, mlflow.start_run(run_name=name, description=lesson.__doc__, tags=tags):
        mlflow.log_params(tracking.flat(given))
        seen = {trial: watched(trial, trials[trial], tags) for trial in track(trials, name)}
        figures = lesson.figures(seen)
        mlflow.log_metrics({f"{figure}/{of}": x for figure, by in figures.items() for of, x in by.items()})
        (folder / "metrics.json").write_text(json.dumps(figures, indent=1))
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        lesson.draw(seen, figure)
        figure.savefig(folder / "picture.png", dpi=100, metadata={"Software": None})
        mlflow.log_artifact(str(folder / "picture.png"))


if __name__ == "__main__":
    main(sys.argv[1])
