"""Stage digits_page: docs/digits.md and its pictures, from page.md and what the lessons and nets wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from service.runtime import cores
from training import parameters
from training.digits.lesson import REPORTS
from training.whole import whole

TEMPLATE = Path(__file__).with_name("page.md")
SEEDS = Path("docs/digits-seeds.csv")  # net, seed, test_accuracy
PAGE, PICTURES = Path("docs/digits.md"), Path("docs/digits")


def spread(net: str, accuracy: float, others: pd.DataFrame) -> str:
    """The lowest and the highest test accuracy of a net, and of how many seeds: this run's, and the others'."""
    seen = [accuracy, *others.loc[others["net"] == net, "test_accuracy"]]
    return f"{min(seen):.4f} to {max(seen):.4f} ({len(seen)})"


def main() -> None:
    digits = parameters.digits()
    figures: dict[str, Any] = {
        name: json.loads((REPORTS / name / "metrics.json").read_text()) for name in (*digits.lessons, *digits.nets)
    }
    seeds = pd.read_csv(SEEDS)
    others = seeds[seeds["seed"] != digits.seed]
    for net in digits.nets:
        figures[net]["spread"] = spread(net, figures[net]["test_accuracy"], others)
    page = TEMPLATE.read_text().format(**figures, cores=cores())
    with whole(PICTURES) as folder:
        for name in digits.lessons:
            shutil.copy(REPORTS / name / "picture.png", folder / f"{name}.png")
        for picture in ("one_hidden/mistakes", "moved/mistakes", "moved/confusion"):
            shutil.copy(REPORTS / f"{picture}.png", folder / f"{picture.replace('/', '_')}.png")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
