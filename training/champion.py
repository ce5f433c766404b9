"""Stage champion: the best candidate by validation Dice, if it beats both baselines there.

Writes reports/champion.json: the champion and what every candidate reached. The test split has no say in it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training import parameters, tracking
from training.evaluate import REPORTS

CHAMPION = Path("reports/champion.json")


class NoChampionError(Exception):
    """No candidate is fit to be served; the message says what each reached."""


def choose(figures: dict[str, dict[str, Any]]) -> str:
    """The candidate with the best validation Dice, by candidate's metrics.json. Of equals, the first by name.

    Raises NoChampionError where even the best does not beat the all-empty and the mean mask on validation.
    """
    name = max(sorted(figures), key=lambda candidate: figures[candidate]["validation"]["dice"])
    reached = figures[name]["validation"]
    bar = max(reached["baseline_empty"], reached["baseline_mean_mask"])
    if reached["dice"] <= bar:
        raise NoChampionError(
            f"no champion: the best candidate, {name}, reached a validation Dice of {reached['dice']}, and the better "
            f"baseline {bar} (all-empty {reached['baseline_empty']}, mean mask {reached['baseline_mean_mask']}). "
            "Train longer, or look at the frames."
        )
    return name


def evaluated(race: list[str]) -> dict[str, dict[str, Any]]:
    """metrics.json of every candidate of `race` that was scored on the data as they are now; the others are named.

    Raises NoChampionError where there is none.
    """
    now = tracking.data_digest()
    found = {}
    for name in race:
        path = REPORTS / name / "metrics.json"
        figures = json.loads(path.read_text()) if path.exists() else {"data": None}
        if figures["data"] == now:
            found[name] = figures
        else:
            print(f"{name} is left out: not scored on these data (`dvc repro champion` scores all of the race)")
    if not found:
        raise NoChampionError("no champion: no candidate was scored on the present data: run `dvc repro champion`")
    return found


def show(figures: dict[str, dict[str, Any]], champion: str) -> None:
    """The race as a table in the terminal."""
    table = Table(title="the race by validation Dice; on test: with a nerve, baselines, presence", title_justify="left")
    for column in ("candidate", "validation", "test", "with nerve", "empty", "mean mask", "AUC"):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    for name, entry in sorted(figures.items(), key=lambda item: -item[1]["validation"]["dice"]):
        test = entry["test"]
        cells = [entry["validation"]["dice"], test["dice"], test["dice_with_nerve"], test["baseline_empty"]]
        cells += [test["baseline_mean_mask"], test["presence_auc"]]
        shown = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        table.add_row(name, *shown, style="bold" if name == champion else None)
    Console().print(table)


def main() -> None:
    try:
        figures = evaluated(parameters.nerve().race)
        name = choose(figures)
    except NoChampionError as fault:
        sys.exit(str(fault))
    show(figures, name)
    CHAMPION.parent.mkdir(exist_ok=True)
    CHAMPION.write_text(json.dumps({"candidate": name, "race": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
