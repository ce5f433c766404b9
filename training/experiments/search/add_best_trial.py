"""Make the best trial of the stage search a candidate: `python -m training.experiments.search.add_best_trial NAME`.

It writes the entry NAME into `nerve.unets` of params.yaml, and its name into `nerve.candidates`. `dvc repro` then
trains it beside the other candidates. The entry has all epochs of the base, and not `nerve.search.overrides`.
"""

import argparse
import json

from dvc.utils.serialize import modify_yaml

from training.experiments.search.parameters import read_search, with_values
from training.workspace import paths
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import check_outputs
from training.workspace.parameter_validation import NAME, validate_section


def add_best_trial(name: str) -> None:
    """Add the candidate to params.yaml. Raises SystemExit if there is one with this name, or no search."""
    if not NAME.fullmatch(name):
        raise SystemExit(f"{name!r} is not a name: use at most 64 letters, digits, _ and -")
    check_outputs(paths.SEARCH_REPORT)
    best = json.loads((paths.SEARCH_REPORT / "best.json").read_text())
    search = read_search().model_copy(update={"base": best["base"], "overrides": {}})
    entry = with_values(search, best["values"])
    validate_section(Candidate, entry, f"nerve.unets.{name}")
    with modify_yaml("params.yaml") as parameters:
        nerve = parameters["nerve"]
        if name in nerve["unets"]:
            raise SystemExit(f"params.yaml: nerve.unets has {name} already: choose another name, or remove it")
        nerve["unets"][name] = entry
        nerve["candidates"].append(name)
    print(f"params.yaml: {name} is a candidate. Train it with `dvc repro`.")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.search.add_best_trial", description="Make the best trial a candidate."
    )
    parser.add_argument("name", help="name of the new candidate")
    add_best_trial(parser.parse_args().name)


if __name__ == "__main__":
    main()
