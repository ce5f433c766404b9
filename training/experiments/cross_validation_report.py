"""Stage cross_validation_report: compare all candidates over the same five folds.

`python -m training.experiments.cross_validation_report`
(`dvc repro training/experiments/dvc.yaml:cross_validation_report`) reads the results of
`training.experiments.cross_validation` and writes to reports/cross_validation_report
  table.md      a row per candidate: Dice with intervals, Dice by fold, differences, baselines; and the folds' leakage
  table.csv     the rows of table.md
  folds.png     each candidate's Dice by fold
  sheet.png     the best candidate's sheets of all folds, one below the other
  CANDIDATE.md  a candidate's Dice by subgroup, and its failure modes
  metrics.json  all metrics
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from skimage.io import imread, imsave

from training.evaluation.conformal_outlines_fit import summarize_outlines
from training.evaluation.failure_modes import count_failures
from training.evaluation.summary import (
    round_metrics,
    subgroup_table,
    summarize,
    summarize_dice,
    summarize_subgroups,
    to_markdown,
)
from training.experiments.cross_validation_table import (
    comparison_table,
    describe_leakage,
    read_fold_scores,
    summarize_folds,
    trained_folds,
    unique_frames,
)
from training.experiments.folds import FOLDS, fold_leakage
from training.workspace import paths
from training.workspace.output_checksums import check_outputs, output_folder
from training.workspace.plotting import stack_vertically


def main() -> None:
    candidates = read_fold_scores()
    if not candidates:
        raise SystemExit(
            f"cross_validation_report: {paths.CROSS_VALIDATION} has no trained folds. Train them with "
            "`dvc repro training/experiments/dvc.yaml:cross_validation_report`."
        )
    check_outputs(paths.FRAMES, paths.SPLIT, *(fold for name in candidates for fold in trained_folds(name)))
    leakage = fold_leakage()
    metrics: dict[str, Any] = {"leakage": leakage}
    table = comparison_table(candidates)
    text = f"{to_markdown(table)}\n{describe_leakage(leakage, candidates)}\n"
    with output_folder(paths.CROSS_VALIDATION_REPORT) as folder:
        for name, scores in candidates.items():
            folds = {fold: round_metrics(fold_metrics) for fold, fold_metrics in summarize_folds(scores).items()}
            metrics[name] = {"all": summarize(scores) | summarize_outlines(scores), "folds": folds}
            subgroups = to_markdown(subgroup_table(summarize_subgroups(scores)))
            (folder / f"{name}.md").write_text(f"{subgroups}\n{to_markdown(count_failures(scores))}")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        (folder / "table.md").write_text(text)
        table.to_csv(folder / "table.csv", index=False)
        _plot_folds(folder / "folds.png", candidates)
        _write_sheet(folder / "sheet.png", next(iter(candidates)))
    print(text)


def _plot_folds(path: Path, candidates: dict[str, pd.DataFrame]) -> None:
    """Write a PNG with a column per candidate: a dot per fold, and the mean of all frames with its interval."""
    figure = Figure(figsize=(1.6 + 1.2 * len(candidates), 3.4), layout="constrained")
    axis = figure.subplots()
    for x, scores in enumerate(candidates.values()):
        metrics = summarize_dice(scores["dice"])
        folds = [fold["dice"] for fold in summarize_folds(scores).values()]
        axis.plot([x] * len(folds), folds, "o", color="0.6", markersize=5)
        errors = [[metrics["dice"] - metrics["dice_low"]], [metrics["dice_high"] - metrics["dice"]]]
        axis.errorbar(x + 0.15, metrics["dice"], errors, fmt="s", color="#0b5c66", capsize=4)
    axis.axhline(unique_frames(candidates)["dice_mean_mask"].mean(), color="0.6", linestyle="--")
    axis.set_xticks(range(len(candidates)), list(candidates))
    axis.set(ylabel="Dice of held-out frames", xlim=(-0.5, len(candidates) - 0.3), ylim=(0, 1))
    axis.set_title("dots: folds; squares: all frames, 95 %\ndashed line: the mean mask", fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _write_sheet(path: Path, candidate: str) -> None:
    """Write the sheets of a candidate's folds to one PNG, one below the other."""
    sheets = [paths.CROSS_VALIDATION / candidate / str(fold) / "sheet.png" for fold in range(1, FOLDS + 1)]
    imsave(path, stack_vertically([imread(sheet) for sheet in sheets if sheet.exists()]), check_contrast=False)


if __name__ == "__main__":
    main()
