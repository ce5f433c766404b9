"""Every candidate by the same five folds: one table, one picture.

`python -m training.yardstick` (`dvc repro folds/dvc.yaml:yardstick`) reads what `training.folds` wrote of each
candidate and writes to reports/yardstick
  table.md    a row a candidate: Dice with intervals, by fold, lost frames, baselines; and how much the folds leak
  folds.png   each candidate's Dice by fold
Between two candidates stands the distance on the same frames: one is better where its interval leaves out 0.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.folds import FOLDS, REPORTS
from training.scores import LOST, RESAMPLED
from training.whole import whole

YARDSTICK = Path("reports/yardstick")


def read() -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    """metrics.json and frames.csv of every candidate, the best first. Raises SystemExit where there is none."""
    found = {
        path.parent.name: (json.loads(path.read_text()), pd.read_csv(path.with_name("frames.csv")))
        for path in sorted(REPORTS.glob("*/metrics.json"))
    }
    if not found:
        raise SystemExit(f"yardstick: {REPORTS} is empty: run `dvc repro folds/dvc.yaml:folds@light` or another's")
    return dict(sorted(found.items(), key=lambda item: -item[1][0]["all"]["dice"]))


def distance(scores: pd.DataFrame, best: pd.DataFrame) -> str:
    """How much lower the Dice is than the best candidate's on the same frames, with 95 % of a bootstrap over them."""
    apart = (scores.set_index("frame")["dice"] - best.set_index("frame")["dice"]).dropna().to_numpy()
    resampled = np.random.default_rng(1).choice(apart, (RESAMPLED, len(apart))).mean(axis=1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return f"{apart.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def table(candidates: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> str:
    """Markdown."""
    first, best = next(iter(candidates.values()))
    titles = ["candidate", "mean Dice (95 %)", "median", f"below {LOST}", *(f"fold {n + 1}" for n in range(FOLDS))]
    lines = [[*titles, "from the best (95 %)"], ["---"] * (len(titles) + 1)]
    for name, (figures, scores) in candidates.items():
        of_all, apart = figures["all"], "-" if scores is best else distance(scores, best)
        mean = f"{of_all['dice']:.3f} ({of_all['dice_low']:.3f} to {of_all['dice_high']:.3f})"
        by_fold = [f"{fold['dice']:.3f}" for fold in figures["folds"].values()]
        lines.append([name, mean, f"{of_all['dice_median']:.3f}", f"{of_all['dice_lost']:.1%}", *by_fold, apart])
    for baseline in ("empty", "mean_mask"):
        reached = f"{first['all'][f'baseline_{baseline}']:.3f}"
        lines.append([f"{baseline.replace('_', ' ')} (baseline)", reached, *[""] * (len(titles) - 1)])
    leak = first["leakage"]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        + f"\n\n{first['all']['frames']} frames, none of the test split. Nearly like a frame outside their fold: "
        f"{leak['nearly_the_same']:.1%}; of folds dealt at random, {leak['nearly_the_same_at_random']:.1%}.\n"
    )


def picture(path: Path, candidates: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> None:
    """A column of dots a candidate, a dot a fold, and the mean of all frames with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 1.2 * len(candidates), 3.4), layout="constrained")
    axis = figure.subplots()
    for place, (figures, _) in enumerate(candidates.values()):
        of_all = figures["all"]
        axis.plot([place] * FOLDS, [fold["dice"] for fold in figures["folds"].values()], "o", color="0.6", markersize=5)
        reach = [[of_all["dice"] - of_all["dice_low"]], [of_all["dice_high"] - of_all["dice"]]]
        axis.errorbar(place + 0.15, of_all["dice"], reach, fmt="s", color="#0b5c66", capsize=4)
    axis.axhline(next(iter(candidates.values()))[0]["all"]["baseline_mean_mask"], color="0.6", linestyle="--")
    axis.set_xticks(range(len(candidates)), list(candidates))
    axis.set(ylabel="Dice of held-out frames", xlim=(-0.5, len(candidates) - 0.3), ylim=(0, 1))
    axis.set_title("dots: folds; squares: all frames, 95 %; dashes: the mean mask", fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    candidates = read()
    with whole(YARDSTICK) as folder:
        (folder / "table.md").write_text(table(candidates))
        picture(folder / "folds.png", candidates)
    print(table(candidates))


if __name__ == "__main__":
    main()
