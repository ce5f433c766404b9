"""Compare the evaluated candidates: read their evaluations, make a table, write files for DVC's metrics and plots.

A candidate's evaluation is the metrics.json that the stage `evaluate` wrote for it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from training.evaluation.summary import LOW_DICE
from training.workspace import paths, provenance

TEST_METRICS = {
    "test": "dice",
    "test_median": "dice_median",
    f"dice_below_{LOW_DICE}": f"dice_below_{LOW_DICE}",
    "presence_auc": "presence_auc",
    "empty_mask": "baseline_empty",
    "mean_mask": "baseline_mean_mask",
}
CURVES = {"val_mask_dice": "validation_dice", "val_loss": "validation_loss"}
IMAGES = ("sheet", "worst", "reliability")


class NoChampionError(Exception):
    """No candidate can be the champion. The message says why."""


def read_evaluations(candidates: list[str]) -> dict[str, dict[str, Any]]:
    """Return the evaluations of the candidates, by name.

    A candidate without an evaluation on the present data is printed and left out.

    Raises NoChampionError if none is left.
    """
    data = provenance.data_digest()
    evaluations = {}
    for name in candidates:
        path = paths.EVALUATION / name / "metrics.json"
        evaluation = json.loads(path.read_text()) if path.exists() else {"data": None}
        if evaluation["data"] == data:
            evaluations[name] = evaluation
        else:
            print(f"{name} is left out: it has no evaluation on the present data. `dvc repro champion` evaluates it.")
    if not evaluations:
        raise NoChampionError(
            "champion: no candidate has an evaluation on the present data. Run `dvc repro champion` to make them."
        )
    return evaluations


def comparison_table(evaluations: dict[str, dict[str, Any]], champion: str) -> Table:
    """Return a table for the terminal: a row for each candidate, the best on validation first, the champion in bold."""
    columns = ("validation Dice", "test Dice", "test, with nerve", "empty mask", "mean mask", "presence AUC")
    table = Table(title="Candidates by validation Dice; all other columns are of the test split", title_justify="left")
    table.add_column("candidate")
    for column in columns:
        table.add_column(column, justify="right")
    for name, evaluation in sorted(evaluations.items(), key=lambda item: -item[1]["validation"]["dice"]):
        test = evaluation["test"]
        values = [evaluation["validation"]["dice"], test["dice"], test["dice_with_nerve"], test["baseline_empty"]]
        values += [test["baseline_mean_mask"], test["presence_auc"]]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(name, *cells, style="bold" if name == champion else None)
    return table


def write_comparison(folder: Path, evaluations: dict[str, dict[str, Any]]) -> None:
    """Write metrics.json, learning_curves.csv, roc.csv and images/ of all candidates to `folder`."""
    metrics = {
        name: {"validation": evaluation["validation"]["dice"]}
        | {column: evaluation["test"][metric] for column, metric in TEST_METRICS.items()}
        for name, evaluation in evaluations.items()
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    histories = {name: pd.read_csv(paths.UNETS / name / "history.csv") for name in evaluations}
    curves = {name: history.rename(columns=CURVES)[["epoch", *CURVES.values()]] for name, history in histories.items()}
    _write_stacked(folder / "learning_curves.csv", curves)
    rocs = {name: pd.read_csv(paths.EVALUATION / name / "roc.csv") for name in evaluations}
    _write_stacked(folder / "roc.csv", rocs)
    (folder / "images").mkdir()
    for name in evaluations:
        for image in IMAGES:
            shutil.copy(paths.EVALUATION / name / f"{image}.png", folder / "images" / f"{name}_{image}.png")


def _write_stacked(path: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write all tables to one CSV file, with a column `candidate`."""
    pd.concat(tables, names=["candidate"]).reset_index(level="candidate").to_csv(path, index=False)
