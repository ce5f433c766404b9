"""What each part of a recipe is worth: how far every variation lies from the base, on the same frames.

`python -m training.ablations` (`dvc repro folds/dvc.yaml:ablations`) reads what `training.variation` wrote of each and
writes to reports/ablations
  table.md         each variation's Dice, and its distance from the base's on the same frames, with intervals
  frames.csv       a row a frame, fold, seed and variation, scored by a net that did not see the frame
  differences.png  the distances, with their intervals, and how far the base's seeds lie apart
"""

from pathlib import Path

import numpy as np
import pandas as pd

from training import variation
from training.scores import LOST, distance, interval, markdown, spread
from training.variation import BASE
from training.whole import whole

REPORTS = Path("reports/ablations")


def read() -> pd.DataFrame:
    """What was scored of every variation of params.yaml, in its order. Raises SystemExit without the base's."""
    folders = [variation.REPORTS / name for name in variation.ablations().variations]
    found = [folder / "frames.csv" for folder in folders if (folder / "frames.csv").exists()]
    if variation.REPORTS / BASE / "frames.csv" not in found:
        raise SystemExit(f"ablations: nothing is known of the base: run `dvc repro folds/dvc.yaml:variation@{BASE}`")
    return pd.concat(map(pd.read_csv, found), ignore_index=True)


def compared(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a variation: its mean Dice, its mean distance from the base's, each with low and high, what it lost, and
    its mean Dice by seed, a list: a change within the seeds' noise is none.

    scores: variation, frame, seed, dice, minutes; of several seeds a frame counts by its mean.
    """
    by_frame = scores.pivot_table(index="frame", columns="variation", values="dice", sort=False)
    rows = {}
    for name, dice in by_frame.items():
        own = scores[scores["variation"] == name]
        rows[name] = {
            **spread(dice.dropna()),
            **distance(dice, by_frame[BASE]),
            "dice_lost": (own["dice"] < LOST).mean(),
            "minutes": own["minutes"].mean(),
            "by_seed": own.groupby("seed")["dice"].mean().to_list(),
        }
    return pd.DataFrame(rows).T


def in_words(name: object) -> str:
    """A variation's name, without underscores."""
    return str(name).replace("_", " ")


def worded(rows: pd.DataFrame) -> pd.DataFrame:
    """`compared` as people read it."""
    return pd.DataFrame(
        {
            "variation": in_words(name),
            "mean Dice (95 %)": interval(row, "dice"),
            "apart from the base (95 %)": "" if name == BASE else interval(row, "distance", "+"),
            "by seed": ", ".join(f"{mean:.3f}" for mean in row["by_seed"]),
            f"below {LOST}": f"{row['dice_lost']:.1%}",
            "minutes of training": f"{row['minutes']:.1f}",
        }
        for name, row in rows.to_dict("index").items()
    )


def draw(path: Path, rows: pd.DataFrame) -> None:
    """The distances from the base with their intervals, the first at the top, over a band from the base's worst seed
    to its best."""
    from matplotlib.figure import Figure

    shown = rows.drop(index=BASE)[::-1]
    figure = Figure(figsize=(7, 1 + 0.35 * len(shown)), layout="constrained")
    axis = figure.subplots()
    reach = np.abs(shown[["distance_low", "distance_high"]].to_numpy().T - shown["distance"].to_numpy())
    axis.errorbar(shown["distance"], [in_words(name) for name in shown.index], xerr=reach, fmt="o")
    axis.axvline(0, color="0.6", linestyle="--")
    by_chance = np.array(rows["by_seed"][BASE]) - rows["dice"][BASE]
    axis.axvspan(by_chance.min(), by_chance.max(), color="0.9", zorder=0)
    axis.set(xlabel=f"mean Dice, apart from the base's {rows['dice'][BASE]:.3f}; grey: the base's seeds")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    scores = read()
    rows = compared(scores)
    told = markdown(worded(rows))
    with whole(REPORTS) as folder:
        scores.to_csv(folder / "frames.csv", index=False)
        (folder / "table.md").write_text(told)
        draw(folder / "differences.png", rows)
    print(told)


if __name__ == "__main__":
    main()
