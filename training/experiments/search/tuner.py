"""Run the trials of a search with Ray Tune: Optuna proposes values, ASHA stops trials early."""

import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output draws tables, also where no terminal shows them
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # else a search that was stopped looks like a finished one
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from training.experiments.ray_trainings import node_environment, training_resources
from training.experiments.search.parameters import Search, draw_from
from training.experiments.search.trial import METRIC, run_trial
from training.workspace import paths
from training.workspace.nerve_parameters import Candidate

MAX_FAILURES = 3  # of a trial, for example because its node is lost


def run_trials(search: Search, inputs: str, parent_run: str, base: Candidate) -> tune.ResultGrid:
    """Run all trials; go on with the trials of a search with the same inputs that was stopped.

    inputs: of `digest_inputs`. parent_run: the run of the search. base: the candidate without changes.
    """
    resources = training_resources()
    arguments = {
        "project": str(Path.cwd()),
        "environment": node_environment(),
        "parent_run": parent_run,
        "search": search.model_dump(),
    }
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, **arguments), {"cpu": resources["num_cpus"], "gpu": resources["num_gpus"]}
    )
    storage = Path.cwd() / paths.SEARCH_TRIALS
    for other in storage.iterdir() if storage.exists() else ():
        if other.name != inputs:
            shutil.rmtree(other)
    if tune.Tuner.can_restore(storage / inputs):
        tuner = tune.Tuner.restore(str(storage / inputs), trainable, restart_errored=True)
    else:
        config = tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=search.trials,
            max_concurrent_trials=search.max_concurrent_trials,
            search_alg=OptunaSearch(seed=search.seed),
            scheduler=ASHAScheduler(max_t=base.recipe.epochs, grace_period=search.grace_epochs, stop_last_trials=False),
        )
        run_config = tune.RunConfig(
            name=inputs,
            storage_path=str(storage),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[PrintTrials(search.trials)],
            verbose=0,
        )
        space = {name: draw_from(distribution) for name, distribution in search.space.items()}
        tuner = tune.Tuner(trainable, param_space=space, tune_config=config, run_config=run_config)
    return tuner.fit()


class PrintTrials(tune.Callback):
    """Prints a line for each trial that has ended."""

    def __init__(self, trials: int):
        self.trials, self.ended, self.best = trials, 0, 0.0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended += 1
        dice, epochs = (trial.last_result.get(name, 0) for name in (METRIC, "epoch"))
        self.best = max(self.best, dice)
        trial_number = f"trial {self.ended} of {self.trials}"
        print(f"{trial_number}: Dice {dice:.3f} after {epochs} epochs, best {self.best:.3f}", flush=True)
