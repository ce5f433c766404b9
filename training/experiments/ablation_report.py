"""Stage ablation_report: compare every ablation with the base on the same frames.

`python -m training.experiments.ablation_report` (`dvc repro training/experiments/dvc.yaml:ablation_report`) reads the
results of `training.experiments.ablation` and writes to reports/ablation_report
  table.md         each ablation's Dice, and its difference from the base, with intervals
  frames.csv       a row per held-out frame, fold, seed and ablation
  differences.png  the differences with intervals, and the range of the base's seeds
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.evaluation.summary import to_markdown
from training.experiments.ablation_parameters import BASE
from training.experiments.ablation_table import compare_with_base, comparison_table, format_name, read_ablation_scores
from training.workspace import paths
from training.workspace.output_checksums import output_folder


def main() -> None:
    scores = read_ablation_scores()
    comparison = compare_with_base(scores)
    table = to_markdown(comparison_table(comparison))
    with output_folder(paths.ABLATION_REPORT) as folder:
        scores.to_csv(folder / "frames.csv", index=False)
        (folder / "table.md").write_text(table)
        _plot_differences(folder / "differences.png", comparison)
    print(table)


def _plot_differences(path: Path, comparison: pd.DataFrame) -> None:
    """Write a PNG with the differences from the base, the first at the top, over a band of the base's seeds."""
    shown = comparison.drop(index=BASE)[::-1]
    base_dice = comparison["dice"][BASE]
    figure = Figure(figsize=(7, 1 + 0.35 * len(shown)), layout="constrained")
    axis = figure.subplots()
    errors = np.abs(shown[["difference_low", "difference_high"]].to_numpy().T - shown["difference"].to_numpy())
    axis.errorbar(shown["difference"], [format_name(name) for name in shown.index], xerr=errors, fmt="o")
    axis.axvline(0, color="0.6", linestyle="--")
    seeds = np.array(comparison["by_seed"][BASE]) - base_dice
    axis.axvspan(seeds.min(), seeds.max(), color="0.9", zorder=0)
    axis.set(xlabel=f"difference from the base's mean Dice, {base_dice:.3f}; grey: range of the base's seeds")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
