"""Stage search: look for better values of a candidate's parameters, with Ray Tune, Optuna and ASHA.

`python -m training.experiments.search` (`dvc repro training/experiments/dvc.yaml:search`) runs the trials of
`nerve.search` in params.yaml and writes to reports/search
  table.md     the trials, the best first
  trials.csv   the same, with all digits
  best.json    the values of the best trial, by their names in `nerve.unets`

Each trial trains the base candidate with other values on one fold. Its score is the best Dice of an epoch on the fold's
validation frames; held-out and test frames take no part. ASHA (Li and others 2020) stops the trials that are behind the
others after the same number of epochs. Optuna proposes the next values by TPE (Bergstra and others 2011).

`python -m training.experiments.search.add_best_trial NAME` makes the best trial a candidate of params.yaml.
"""

import json
from typing import TYPE_CHECKING

import mlflow
import pandas as pd

from training.evaluation.summary import to_markdown
from training.experiments.ray_trainings import connection, digest_inputs
from training.experiments.search.parameters import Search, draw_from, read_search, with_values
from training.experiments.search.trial import EXPERIMENT, METRIC
from training.experiments.search.tuner import run_trials
from training.workspace import nerve_parameters, paths, tracking
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import check_outputs, output_folder
from training.workspace.parameter_validation import validate_section

if TYPE_CHECKING:
    from ray import tune


def main() -> None:
    search = read_search()
    check_outputs(paths.FRAMES, paths.SPLIT)
    if search.base not in nerve_parameters.read_nerve_parameters().unets:
        raise SystemExit(f"params.yaml: nerve.search.base is {search.base}, which is not in nerve.unets")
    base = validate_section(Candidate, with_values(search, {}), f"nerve.search: {search.base}")
    sample = {name: draw_from(distribution).sample() for name, distribution in search.space.items()}
    for overrides in (search.overrides, {}):  # add_best_trial leaves them out
        entry = with_values(search.model_copy(update={"overrides": overrides}), sample)
        validate_section(Candidate, entry, "nerve.search.space")  # before any trial starts
    if search.grace_epochs > base.recipe.epochs:
        raise SystemExit(
            f"params.yaml: nerve.search.grace_epochs is more than the {base.recipe.epochs} epochs of a trial"
        )
    tracking.use_experiment(EXPERIMENT)
    tags = tracking.run_tags(nerve_parameters.read_nerve_parameters().source)
    with connection(), mlflow.start_run(run_name=f"{search.base}, {search.trials} trials", tags=tags) as parent:
        results = run_trials(search, digest_inputs(base, search.model_dump_json()), parent.info.run_id, base)
        if len(results) < search.trials:
            raise SystemExit(f"search: {len(results)} of {search.trials} trials have ended: run the stage again")
        best = write_results(search, results)
        mlflow.log_metrics({"dice": best})
        mlflow.log_artifacts(str(paths.SEARCH_REPORT))


def write_results(search: Search, results: "tune.ResultGrid") -> float:
    """Write the report; return the best Dice. Raises SystemExit if no trial has one."""
    rows = [
        {"dice": result.metrics[METRIC], "epochs": result.metrics["epoch"], **(result.config or {})}
        for result in list(results)  # type: ignore[call-overload]
        if result.metrics and METRIC in result.metrics
    ]
    if not rows:
        raise SystemExit("search: every trial failed: " + str(results.errors[0]).strip().splitlines()[-1])
    trials = pd.DataFrame(rows).sort_values("dice", ascending=False, ignore_index=True)
    best = {name: trials.iloc[0][name] for name in search.space}
    with output_folder(paths.SEARCH_REPORT) as folder:
        trials.to_csv(folder / "trials.csv", index=False)
        table = to_markdown(trials.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)))
        (folder / "table.md").write_text(table)
        values = pd.Series(best, dtype=object).map(lambda value: getattr(value, "item", lambda: value)())
        (folder / "best.json").write_text(json.dumps({"base": search.base, "values": values.to_dict()}, indent=1))
    print(table)
    if results.num_errors:
        print(f"search: {results.num_errors} of {len(results)} trials failed", flush=True)
    return float(trials["dice"].iloc[0])


if __name__ == "__main__":
    main()
