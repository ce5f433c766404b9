"""What each part of a recipe is worth: it is trained again with one thing changed at a time.

`python -m training.ablations` (`dvc repro folds/dvc.yaml:ablations`) takes `nerve.ablations` of params.yaml and writes
to reports/ablations
  table.md         each variation's Dice, and its distance from the base's on the same frames, with intervals
  frames.csv       a row a frame, seed and variation, scored by a net that did not see the frame
  differences.png  the distances, with their intervals
Frames are held out as in `training.folds`; the test split takes no part. In MLflow each training is a run of its own
under one parent, in the experiment "ablations".
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training import parameters, tracking
from training.evaluate import open_network
from training.folds import scored, sides_of_rows, trained
from training.parameters import Ablations, Candidate
from training.quiet import import_tensorflow
from training.scores import LOST, RESAMPLED, spread
from training.sources.layout import Row
from training.whole import whole

REPORTS = Path("reports/ablations")
EXPERIMENT = "ablations"
BASE = "base"
ASKED = {False: "asked twice, once mirrored", True: "asked once"}  # by what the base is not


def varied(entry: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`entry` with what `changes` says otherwise; mappings are entered, all else is replaced."""
    inside = {
        key: varied(entry[key], value) if isinstance(value, dict) and isinstance(entry.get(key), dict) else value
        for key, value in changes.items()
    }
    return entry | inside


def candidates(chosen: Ablations) -> dict[str, Candidate]:
    """The base, and each variation of it, by name; all with what the ablations' own entry says of all."""
    base = varied(parameters.nerve().unets[chosen.base], chosen.of_all)
    variations = {BASE: {}, **chosen.variations}
    return {name: parameters.held(Candidate, varied(base, changes), name) for name, changes in variations.items()}


def trainings(chosen: Ablations, sides: dict[int, dict[str, list[Row]]]) -> Iterator[pd.DataFrame]:
    """Scores of every variation, fold and seed, a row a frame, each logged as a run when it is done.

    sides: by fold, the rows of "train", "validation" and "held_out".
    """
    import mlflow

    for name, candidate in candidates(chosen).items():
        for fold in chosen.folds:
            for seed in chosen.seeds:
                with mlflow.start_run(run_name=f"{name}, fold {fold}, seed {seed}", nested=True):
                    mlflow.log_params(tracking.flat(candidate.model_dump()))
                    start = time.perf_counter()
                    with trained(candidate, sides[fold], seed) as folder:
                        minutes = (time.perf_counter() - start) / 60
                        mirrored = candidate.mirrored
                        asked = {name: mirrored} | ({ASKED[mirrored]: not mirrored} if name == BASE else {})
                        for called, twice in asked.items():
                            _, scores = scored(open_network(folder, twice), sides[fold])
                            yield scores.assign(variation=called, fold=fold, seed=seed, minutes=minutes)
                            if called == name:
                                mlflow.log_metrics({"minutes": minutes, **spread(scores["dice"])})
                print(f"{name}, fold {fold}, seed {seed}: {minutes:.1f} minutes")


def compared(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a variation: its mean Dice, its mean distance from the base's, each with low and high, and what it lost.

    scores: variation, frame, dice, minutes; of several seeds a frame counts by its mean. Intervals of 95 % by a
    bootstrap over frames, the same frames for both sides of a distance.
    """
    by_frame = scores.pivot_table(index="frame", columns="variation", values="dice", sort=False)
    resampled = np.random.default_rng(1).integers(len(by_frame), size=(RESAMPLED, len(by_frame)))
    rows = {}
    for name, dice in by_frame.items():
        apart = (dice - by_frame[BASE]).to_numpy()
        own = scores[scores["variation"] == name]
        rows[name] = {"dice": dice.mean(), "distance": apart.mean(), "lost": (own["dice"] < LOST).mean()}
        rows[name]["minutes"] = own["minutes"].mean()
        for of, values in (("dice", dice.to_numpy()), ("distance", apart)):
            rows[name][f"{of}_low"], rows[name][f"{of}_high"] = np.percentile(
                values[resampled].mean(axis=1), (2.5, 97.5)
            )
    return pd.DataFrame(rows).T


def worded(rows: pd.DataFrame) -> pd.DataFrame:
    """`compared` as people read it."""
    return pd.DataFrame(
        {
            "variation": row.name,
            "mean Dice (95 %)": f"{row.dice:.3f} ({row.dice_low:.3f} to {row.dice_high:.3f})",
            "apart from the base (95 %)": ""
            if row.name == BASE
            else f"{row.distance:+.3f} ({row.distance_low:+.3f} to {row.distance_high:+.3f})",
            f"below {LOST}": f"{row.lost:.1%}",
            "minutes of training": f"{row.minutes:.1f}",
        }
        for row in rows.rename_axis("name").reset_index().itertuples()
    )


def table(rows: pd.DataFrame) -> str:
    """`compared` as a Markdown table."""
    said = worded(rows)
    lines = [list(said.columns), ["---"] * len(said.columns), *said.values.tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw(path: Path, rows: pd.DataFrame) -> None:
    """The distances from the base with their intervals, the first at the top."""
    from matplotlib.figure import Figure

    shown = rows.drop(index=BASE)[::-1]
    figure = Figure(figsize=(7, 1 + 0.35 * len(shown)), layout="constrained")
    axis = figure.subplots()
    reach = np.abs(shown[["distance_low", "distance_high"]].to_numpy().T - shown["distance"].to_numpy())
    axis.errorbar(shown["distance"], list(shown.index), xerr=reach, fmt="o")
    axis.axvline(0, color="0.6", linestyle="--")
    axis.set(xlabel=f"mean Dice, apart from the base's {rows['dice'][BASE]:.3f}")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    import_tensorflow()
    import mlflow

    nerve = parameters.nerve()
    chosen = parameters.ablations()
    sides = {fold: sides_of_rows(fold - 1, nerve.split.validation) for fold in chosen.folds}
    tracking.store(EXPERIMENT)
    with (
        whole(REPORTS) as folder,
        mlflow.start_run(run_name=f"ablations of {chosen.base}", tags=tracking.tags(nerve.source)),
    ):
        scores = pd.concat(trainings(chosen, sides), ignore_index=True)
        rows = compared(scores)
        scores.to_csv(folder / "frames.csv", index=False)
        (folder / "table.md").write_text(table(rows))
        draw(folder / "differences.png", rows)
        mlflow.log_artifacts(str(folder), "ablations")
    print(table(rows))


if __name__ == "__main__":
    main()
