"""Stage champion: choose the best candidate by validation Dice, if it beats both baselines there.

The test split has no influence on the choice. Writes
  reports/candidates/champion.json   candidate: the champion's name; candidates: the evaluation of each candidate
  reports/candidates/                all candidates side by side, for `dvc metrics show` and `dvc plots show`
"""

import json
import sys
from typing import Any

from rich.console import Console

from training.release.candidate_comparison import (
    NoChampionError,
    comparison_table,
    read_evaluations,
    write_comparison,
)
from training.workspace import nerve_parameters, paths
from training.workspace.output_checksums import check_outputs, output_folder


def choose_champion(evaluations: dict[str, dict[str, Any]]) -> str:
    """Return the candidate with the best validation Dice; the first by name if several are equal.

    Raises NoChampionError if it does not beat both baselines on validation: the empty mask and the mean mask.
    """
    name = max(sorted(evaluations), key=lambda candidate: evaluations[candidate]["validation"]["dice"])
    validation = evaluations[name]["validation"]
    baseline = max(validation["baseline_empty"], validation["baseline_mean_mask"])
    if validation["dice"] <= baseline:
        raise NoChampionError(
            f"champion: the best candidate, {name}, has a validation Dice of {validation['dice']}. It must be above "
            f"the better baseline, {baseline} (empty mask {validation['baseline_empty']}, mean mask "
            f"{validation['baseline_mean_mask']}). Train longer, or check the frames and masks."
        )
    return name


def main() -> None:
    candidates = nerve_parameters.read_nerve_parameters().candidates
    folders = [folder / name for folder in (paths.UNETS, paths.EVALUATION) for name in candidates]
    check_outputs(*(folder for folder in folders if folder.exists()))
    try:
        evaluations = read_evaluations(candidates)
        champion = choose_champion(evaluations)
    except NoChampionError as error:
        sys.exit(str(error))
    Console().print(comparison_table(evaluations, champion))
    with output_folder(paths.CANDIDATES) as folder:
        write_comparison(folder, evaluations)
        content = {"candidate": champion, "candidates": evaluations}
        (folder / paths.CHAMPION.name).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
