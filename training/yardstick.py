"""Every candidate by the same five folds: one table, one picture.

`python -m training.yardstick` (`dvc repro folds/dvc.yaml:yardstick`) reads what `training.folds` wrote of each
candidate's folds and writes to reports/yardstick
  table.md      a row a candidate: Dice with intervals, by fold, lost frames, baselines; and how much the folds leak
  table.csv     its rows
  folds.png     each candidate's Dice by fold
  sheet.png     the best candidate's folds, one below the other: the best, median and worst frames of each
  NET.md        a candidate's Dice by size of nerve and of frame, and what is wrong with its masks
  metrics.json  all that was measured
Between two candidates stands the distance on the same frames: one is better where its interval leaves out 0.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage.io import imread, imsave

from training import parameters
from training.failures import counted
from training.folds import FOLDS, REPORTS, sides_of_rows
from training.pictures import stacked
from training.scores import LOST, distance, groups, interval, markdown, rounded, spread, summary, table
from training.twins import leakage, looks
from training.whole import whole

YARDSTICK = Path("reports/yardstick")
MEAN = "mean Dice (95 %)"


def read() -> dict[str, pd.DataFrame]:
    """The scored frames of every candidate of the race, the best first; none where no fold is trained."""
    found = {
        name: pd.concat(map(pd.read_csv, sorted((REPORTS / name).glob("[1-5]/frames.csv"))), ignore_index=True)
        for name in parameters.nerve().race
        if any((REPORTS / name).glob("[1-5]/frames.csv"))
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]["dice"].mean()))


def leaks() -> dict[str, float]:
    """How many frames the folds hold, and how much they leak, whoever is trained on them."""
    validation = parameters.nerve().split.validation
    held_out = [sides_of_rows(fold, validation)["held_out"] for fold in range(FOLDS)]
    rows = [row for some in held_out for row in some]
    folds = np.repeat(np.arange(FOLDS), [len(some) for some in held_out])
    return {"frames": len(rows), **leakage(looks(rows), folds)}


def by_fold(scores: pd.DataFrame) -> dict[int, dict[str, float]]:
    """`spread` of each fold that was trained."""
    return {int(fold): spread(scores.loc[scores["fold"] == fold, "dice"]) for fold in scores["fold"].unique()}


def scored_frames(candidates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each frame that any candidate was scored on; what does not depend on the candidate may be read off."""
    return pd.concat(candidates.values()).drop_duplicates("frame")


def compared(candidates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a candidate and a baseline, as people read it. A fold that was not trained is left empty."""
    dice = {name: scores.set_index("frame")["dice"] for name, scores in candidates.items()}
    best = next(iter(dice))
    rows = []
    for name, scores in candidates.items():
        of_all, of_fold, apart = spread(scores["dice"]), by_fold(scores), distance(dice[name], dice[best])
        rows.append(
            {
                "candidate": name,
                MEAN: interval(of_all, "dice"),
                "median": f"{of_all['dice_median']:.3f}",
                f"below {LOST}": f"{of_all['dice_lost']:.1%}",
                **{f"fold {n}": f"{of_fold[n]['dice']:.3f}" if n in of_fold else "" for n in range(1, FOLDS + 1)},
                "from the best (95 %)": "-" if name == best else interval(apart, "distance", "+"),
            }
        )
    every = scored_frames(candidates)
    for baseline in ("empty", "mean_mask"):
        reached = f"{every[f'dice_{baseline}'].mean():.3f}"
        rows.append({"candidate": f"{baseline.replace('_', ' ')} (baseline)", MEAN: reached})
    return pd.DataFrame(rows).fillna("")


def leaking(leak: dict[str, float], candidates: dict[str, pd.DataFrame]) -> str:
    """`leaks` as people read it, and which folds are still to be trained."""
    trained = {name: scores["fold"].nunique() for name, scores in candidates.items()}
    wanting = ", ".join(f"{name} {count} of {FOLDS}" for name, count in trained.items() if count < FOLDS)
    told = (
        f"{leak['frames']} frames, none of the test split. With a near twin outside their fold: "
        f"{leak['twins']:.1%}; of folds dealt at random, {leak['twins_at_random']:.1%}."
    )
    return f"{told} Not all folds are trained: {wanting}." if wanting else told


def picture(path: Path, candidates: dict[str, pd.DataFrame]) -> None:
    """A column of dots a candidate, a dot a fold, and the mean of all frames with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 1.2 * len(candidates), 3.4), layout="constrained")
    axis = figure.subplots()
    for place, scores in enumerate(candidates.values()):
        of_all = spread(scores["dice"])
        dots = [fold["dice"] for fold in by_fold(scores).values()]
        axis.plot([place] * len(dots), dots, "o", color="0.6", markersize=5)
        reach = [[of_all["dice"] - of_all["dice_low"]], [of_all["dice_high"] - of_all["dice"]]]
        axis.errorbar(place + 0.15, of_all["dice"], reach, fmt="s", color="#0b5c66", capsize=4)
    axis.axhline(scored_frames(candidates)["dice_mean_mask"].mean(), color="0.6", linestyle="--")
    axis.set_xticks(range(len(candidates)), list(candidates))
    axis.set(ylabel="Dice of held-out frames", xlim=(-0.5, len(candidates) - 0.3), ylim=(0, 1))
    axis.set_title("dots: folds; squares: all frames, 95 %\ndashes: the mean mask", fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def sheet(path: Path, name: str) -> None:
    """The sheets of a candidate's folds, one below the other."""
    sheets = [imread(of_fold) for of_fold in sorted((REPORTS / name).glob("[1-5]/sheet.png"))]
    imsave(path, stacked(sheets), check_contrast=False)


def main() -> None:
    candidates = read()
    if not candidates:
        raise SystemExit(f"yardstick: {REPORTS} is empty: run `dvc repro folds/dvc.yaml:yardstick`")
    leak = leaks()
    figures: dict[str, Any] = {"leakage": leak}
    rows = compared(candidates)
    told = f"{markdown(rows)}\n{leaking(leak, candidates)}\n"
    with whole(YARDSTICK) as folder:
        for name, scores in candidates.items():
            figures[name] = {
                "all": summary(scores),
                "folds": {fold: rounded(of) for fold, of in by_fold(scores).items()},
            }
            (folder / f"{name}.md").write_text(f"{table(groups(scores))}\n{markdown(counted(scores))}")
        (folder / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
        (folder / "table.md").write_text(told)
        rows.to_csv(folder / "table.csv", index=False)
        picture(folder / "folds.png", candidates)
        sheet(folder / "sheet.png", next(iter(candidates)))
    print(told)


if __name__ == "__main__":
    main()
