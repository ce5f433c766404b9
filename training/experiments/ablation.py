"""Stage ablation: train the base candidate again with one change.

`python -m training.experiments.ablation NAME` (`dvc repro training/experiments/dvc.yaml:ablation@NAME`), with NAME from
`nerve.ablations.changes` in params.yaml, writes to reports/ablation/NAME/foldFOLD_seedSEED
  frames.csv  a row per held-out frame

Frames are held out as in `training.experiments.cross_validation`; the test split takes no part. Each training is a run
in the MLflow experiment "ablations". `training.experiments.ablation_report` compares all ablations.
"""

from pathlib import Path

import pandas as pd

from training.experiments.ablation_parameters import BASE, ablation_candidates, read_ablations
from training.experiments.fold_training import train_and_score
from training.experiments.ray_trainings import Training, digest_inputs, remove_other_folders, run_trainings
from training.workspace import paths, provenance, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.nerve_parameters import Candidate, Tta
from training.workspace.output_checksums import check_outputs

EXPERIMENT = "ablations"
OTHER_TTA: dict[Tta, Tta] = {"none": "flip", "flip": "none"}


def main(name: str) -> None:
    section = read_ablations()
    candidates = ablation_candidates(section)
    if name not in candidates:
        raise SystemExit(f"params.yaml: nerve.ablations.changes has no {name!r}; it has {', '.join(candidates)}")
    check_outputs(paths.FRAMES, paths.SPLIT)
    seeds = section.changes[name].seeds or section.seeds
    trainings = [
        Training(
            title=f"{name}, fold {fold}, seed {seed}",
            folder=paths.ABLATION / name / f"fold{fold}_seed{seed}",
            function=train_ablation,
            arguments=(name, fold, seed, candidates[name]),
            inputs=digest_inputs(candidates[name], fold, seed),
        )
        for fold in section.folds
        for seed in seeds
    ]
    remove_other_folders(paths.ABLATION / name, trainings)
    run_trainings(f"{name}, {len(trainings)} trainings", EXPERIMENT, trainings)


def train_ablation(folder: Path, parent_run: str, name: str, fold: int, seed: int, candidate: Candidate) -> None:
    """Train on one fold, as a run of MLflow. Write a row per held-out frame into `folder`.

    The base has a second row per frame: the ablation `tta_flip` or `tta_none`, of the same network with the other TTA.
    """
    tracking.use_experiment(EXPERIMENT)
    ttas = {name: candidate.tta}
    if name == BASE:
        other_tta = OTHER_TTA[candidate.tta]
        ttas[f"tta_{other_tta}"] = other_tta
    with train_and_score(candidate, fold, seed, f"{name}, fold {fold}, seed {seed}", ttas, parent_run) as results:
        tables = [result.scores.assign(ablation=ablation) for ablation, result in results.items()]
        minutes = results[name].minutes
    scores = pd.concat(tables, ignore_index=True)
    scores = scores.assign(fold=fold, seed=seed, minutes=minutes, fingerprint=provenance.fingerprint(candidate))
    scores.to_csv(folder / "frames.csv", index=False)


if __name__ == "__main__":
    main(stage_item())
