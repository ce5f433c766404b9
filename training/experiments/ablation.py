"""Stage ablation: train the base candidate again with one change.

`python -m training.experiments.ablation NAME` (`dvc repro training/experiments/dvc.yaml:ablation@NAME`), with NAME from
`nerve.ablations.changes` in params.yaml, writes to reports/ablation/NAME
  frames.csv  a row per held-out frame, fold and seed

Frames are held out as in `training.experiments.cross_validation`; the test split takes no part. Each training is a run
in the MLflow experiment "ablations". `training.experiments.ablation_report` compares all ablations.
"""

import sys
import time

import mlflow
import pandas as pd

from training.evaluation.inference import open_network
from training.evaluation.summary import summarize_dice
from training.experiments.ablation_parameters import BASE, ablation_candidates, ablations
from training.experiments.fold_training import score_held_out, train_on_fold
from training.experiments.folds import rows_of_fold
from training.workspace import parameters, paths, provenance, tracking
from training.workspace.atomic_folder import atomic_folder
from training.workspace.parameters import Candidate, Tta

EXPERIMENT = "ablations"
OTHER_TTA: dict[Tta, Tta] = {"none": "flip", "flip": "none"}


def main(name: str) -> None:
    section = ablations()
    candidates = ablation_candidates(section)
    if name not in candidates:
        raise SystemExit(f"params.yaml: nerve.ablations.changes has no {name!r}; it has {', '.join(candidates)}")
    tracking.use_experiment(EXPERIMENT)
    seeds = section.changes[name].seeds or section.seeds
    with atomic_folder(paths.ABLATION / name) as folder:
        scores = [_train_and_score(name, candidates[name], fold, seed) for fold in section.folds for seed in seeds]
        pd.concat(scores, ignore_index=True).to_csv(folder / "frames.csv", index=False)


def _train_and_score(name: str, candidate: Candidate, fold: int, seed: int) -> pd.DataFrame:
    """Train on one fold, as a run of MLflow. Return a row per held-out frame.

    The base has a second row per frame: the ablation `tta_flip` or `tta_none`, of the same network with the other TTA.
    """
    nerve = parameters.nerve()
    rows = rows_of_fold(fold - 1, nerve.split.validation)
    title = f"{name}, fold {fold}, seed {seed}"
    ttas = {name: candidate.tta}
    if name == BASE:
        other_tta = OTHER_TTA[candidate.tta]
        ttas[f"tta_{other_tta}"] = other_tta
    with mlflow.start_run(run_name=title, tags=tracking.run_tags(nerve.source)):
        mlflow.log_params(tracking.flatten(candidate.model_dump()))
        start = time.perf_counter()
        with train_on_fold(candidate, rows, seed, title) as folder:
            minutes = (time.perf_counter() - start) / 60
            scores = {ablation: score_held_out(open_network(folder, tta), rows)[1] for ablation, tta in ttas.items()}
        mlflow.log_metrics({"minutes": minutes, **summarize_dice(scores[name]["dice"])})
    table = pd.concat([scored.assign(ablation=ablation) for ablation, scored in scores.items()], ignore_index=True)
    return table.assign(fold=fold, seed=seed, minutes=minutes, fingerprint=provenance.fingerprint(candidate))


if __name__ == "__main__":
    main(sys.argv[1])
