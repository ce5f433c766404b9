"""Stage digits_page: docs/digits.md and its pictures, from page.md and the outputs of the lessons and networks."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from training.digits.seed_table import SEEDS, recipe_digest
from training.workspace import digits_parameters, paths
from training.workspace.atomic_folder import atomic_folder
from training.workspace.digits_parameters import DigitNet
from training.workspace.output_checksums import check_outputs

TEMPLATE = Path(__file__).with_name("page.md")
PAGE, PICTURES = Path("docs/digits.md"), Path("docs/digits")
NET_PICTURES = ("one_hidden/mistakes", "moved/mistakes", "moved/confusion")


def seed_range(net: DigitNet, accuracy: float, other_seeds: pd.DataFrame) -> str:
    """Return the lowest and the highest test accuracy of a recipe, and the number of seeds, as text.

    accuracy: of the pipeline's own run.
    other_seeds: the rows of SEEDS with other seeds than that run's.
    """
    accuracies = [accuracy, *other_seeds.loc[other_seeds["recipe"] == recipe_digest(net), "test_accuracy"]]
    if len(accuracies) == 1:
        return "one seed"
    return f"{min(accuracies):.4f} to {max(accuracies):.4f} ({len(accuracies)})"


def main() -> None:
    digits = digits_parameters.read_digits_parameters()
    names = (*digits.lessons, *digits.nets)
    check_outputs(*(paths.DIGITS / name for name in names))
    metrics: dict[str, Any] = {name: json.loads((paths.DIGITS / name / "metrics.json").read_text()) for name in names}
    seeds = pd.read_csv(SEEDS)
    other_seeds = seeds[seeds["seed"] != digits.seed]
    for net in digits.nets:
        metrics[net]["seed_range"] = seed_range(digits.net(net), metrics[net]["test_accuracy"], other_seeds)
    page = TEMPLATE.read_text().format(**metrics)
    with atomic_folder(PICTURES) as folder:
        for name in digits.lessons:
            shutil.copy(paths.DIGITS / name / "picture.png", folder / f"{name}.png")
        for picture in NET_PICTURES:
            shutil.copy(paths.DIGITS / f"{picture}.png", folder / f"{picture.replace('/', '_')}.png")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
