"""Stage digits_page: docs/digits.md and its pictures, from page.md and what the lessons and nets wrote."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from training import parameters
from training.digits.lesson import REPORTS
from training.parameters import DigitNet
from training.whole import whole

TEMPLATE = Path(__file__).with_name("page.md")
SEEDS = Path("docs/digits-seeds.csv")  # net, recipe, seed, test_accuracy
PAGE, PICTURES = Path("docs/digits.md"), Path("docs/digits")


def recipe(net: DigitNet) -> str:
    """A digest of all that a net is made and trained by."""
    return hashlib.sha256(net.model_dump_json(exclude={"about"}).encode()).hexdigest()[:12]


def spread(net: DigitNet, accuracy: float, others: pd.DataFrame) -> str:
    """The lowest and the highest test accuracy of a net, and of how many seeds: this run's and others of its recipe."""
    seen = [accuracy, *others.loc[others["recipe"] == recipe(net), "test_accuracy"]]
    return f"{min(seen):.4f} to {max(seen):.4f} ({len(seen)})" if len(seen) > 1 else "one seed"


def main() -> None:
    digits = parameters.digits()
    figures: dict[str, Any] = {
        name: json.loads((REPORTS / name / "metrics.json").read_text()) for name in (*digits.lessons, *digits.nets)
    }
    seeds = pd.read_csv(SEEDS)
    others = seeds[seeds["seed"] != digits.seed]
    for net in digits.nets:
        figures[net]["spread"] = spread(digits.net(net), figures[net]["test_accuracy"], others)
    page = TEMPLATE.read_text().format(**figures)
    with whole(PICTURES) as folder:
        for name in digits.lessons:
            shutil.copy(REPORTS / name / "picture.png", folder / f"{name}.png")
        for picture in ("one_hidden/mistakes", "moved/mistakes", "moved/confusion"):
            shutil.copy(REPORTS / f"{picture}.png", folder / f"{picture.replace('/', '_')}.png")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
