"""A recipe trained again with one thing changed.

`python -m training.variation NAME` (`dvc repro folds/dvc.yaml:variation@NAME`) takes `nerve.ablations` of params.yaml
and writes to reports/variations/NAME
  frames.csv  a row a frame, fold and seed, scored by a net that did not see the frame
Frames are held out as in `training.folds`; the test split takes no part. In MLflow each training is a run of its own
in the experiment "ablations". `training.ablations` tells what all came to.
"""

import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, PositiveInt

from training import parameters, tracking
from training.evaluate import open_network
from training.folds import scored, sides_of_rows, trained
from training.parameters import Candidate, Section, held
from training.quiet import import_tensorflow
from training.scores import spread
from training.whole import whole

REPORTS = Path("reports/variations")
EXPERIMENT = "ablations"
BASE = "base"
ASKED = {False: "asked_twice_once_mirrored", True: "asked_once"}  # by what the base is not


class Variation(Section):
    """What is told a candidate otherwise, and seeds of its trainings; where it has none, those of all variations."""

    seeds: list[int] = Field([])
    input: dict[str, Any] = Field({})
    mirrored: bool | None = None
    net: dict[str, Any] = Field({})
    recipe: dict[str, Any] = Field({})

    @property
    def changes(self) -> dict[str, Any]:
        """Of a candidate's entry, what the variation names."""
        return self.model_dump(exclude={"seeds"}, exclude_unset=True)


class Ablations(Section):
    """The section `nerve.ablations`: variations of a candidate.

    of_all: what all are told. folds: of the five, from 1. seeds: of each variation's trainings. variations: among them
    "base", which changes nothing; its own seeds show how far chance alone moves it.
    """

    base: str
    folds: list[PositiveInt]
    seeds: list[int]
    of_all: dict[str, Any] = Field({})
    variations: dict[str, Variation]


def ablations() -> Ablations:
    """The section `nerve.ablations` of params.yaml. Raises ParameterError where an entry is faulty."""
    return held(Ablations, parameters.nerve().ablations, "nerve.ablations")


def varied(entry: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`entry` with what `changes` says otherwise; mappings are entered, all else is replaced."""
    inside = {
        key: varied(entry[key], value) if isinstance(value, dict) and isinstance(entry.get(key), dict) else value
        for key, value in changes.items()
    }
    return entry | inside


def candidates(chosen: Ablations) -> dict[str, Candidate]:
    """Each variation of the base, by name; all with what the ablations' own entry says of all."""
    base = varied(parameters.nerve().unets[chosen.base], chosen.of_all)
    return {
        name: held(Candidate, varied(base, variation.changes), f"nerve.ablations.variations.{name}")
        for name, variation in chosen.variations.items()
    }


def scores_of(name: str, candidate: Candidate, fold: int, seed: int) -> pd.DataFrame:
    """The candidate trained on a fold: a row a held-out frame, as a run of MLflow. Of the base two rows, the second as
    if it were asked as often as it is not."""
    import mlflow

    nerve = parameters.nerve()
    sides = sides_of_rows(fold - 1, nerve.split.validation)
    title = f"{name}, fold {fold}, seed {seed}"
    with mlflow.start_run(run_name=title, tags=tracking.tags(nerve.source)):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        start = time.perf_counter()
        with trained(candidate, sides, seed, title) as folder:
            minutes = (time.perf_counter() - start) / 60
            asked = {name: candidate.mirrored}
            if name == BASE:
                asked[ASKED[candidate.mirrored]] = not candidate.mirrored
            found = [
                scored(open_network(folder, mirrored), sides)[1].assign(variation=called)
                for called, mirrored in asked.items()
            ]
        mlflow.log_metrics({"minutes": minutes, **spread(found[0]["dice"])})
    return pd.concat(found, ignore_index=True).assign(
        fold=fold, seed=seed, minutes=minutes, made_of=tracking.made_of(candidate)
    )


def main(name: str) -> None:
    import_tensorflow()
    chosen = ablations()
    known = candidates(chosen)
    if name not in known:
        raise SystemExit(f"params.yaml: nerve.ablations.variations has no {name!r}; it has {', '.join(known)}")
    tracking.store(EXPERIMENT)
    seeds = chosen.variations[name].seeds or chosen.seeds
    with whole(REPORTS / name) as folder:
        each = [scores_of(name, known[name], fold, seed) for fold in chosen.folds for seed in seeds]
        pd.concat(each, ignore_index=True).to_csv(folder / "frames.csv", index=False)


if __name__ == "__main__":
    main(sys.argv[1])
