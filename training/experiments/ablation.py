"""Stage ablation: train the base candidate again with one change.

`python -m training.experiments.ablation NAME` (`dvc repro training/experiments/dvc.yaml:ablation@NAME`), with NAME from
`nerve.ablations.changes` in params.yaml, writes to reports/ablation/NAME
  frames.csv  a row per held-out frame, fold and seed

Frames are held out as in `training.experiments.cross_validation`; the test split takes no part. Each training is a run
in the MLflow experiment "ablations". `training.experiments.ablation_report` compares all ablations.
"""

import pandas as pd

from training.experiments.ablation_parameters import BASE, ablation_candidates, read_ablations
from training.experiments.fold_training import train_and_score
from training.workspace import paths, provenance, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.nerve_parameters import Candidate, Tta
from training.workspace.output_checksums import check_outputs, output_folder

EXPERIMENT = "ablations"
OTHER_TTA: dict[Tta, Tta] = {"none": "flip", "flip": "none"}


def main(name: str) -> None:
    section = read_ablations()
    candidates = ablation_candidates(section)
    if name not in candidates:
        raise SystemExit(f"params.yaml: nerve.ablations.changes has no {name!r}; it has {', '.join(candidates)}")
    check_outputs(paths.FRAMES, paths.SPLIT)
    tracking.use_experiment(EXPERIMENT)
    seeds = section.changes[name].seeds or section.seeds
    with output_folder(paths.ABLATION / name) as folder:
        scores = [_train_and_score(name, candidates[name], fold, seed) for fold in section.folds for seed in seeds]
        pd.concat(scores, ignore_index=True).to_csv(folder / "frames.csv", index=False)


def _train_and_score(name: str, candidate: Candidate, fold: int, seed: int) -> pd.DataFrame:
    """Train on one fold, as a run of MLflow. Return a row per held-out frame.

    The base has a second row per frame: the ablation `tta_flip` or `tta_none`, of the same network with the other TTA.
    """
    ttas = {name: candidate.tta}
    if name == BASE:
        other_tta = OTHER_TTA[candidate.tta]
        ttas[f"tta_{other_tta}"] = other_tta
    with train_and_score(candidate, fold, seed, f"{name}, fold {fold}, seed {seed}", ttas) as results:
        tables = [result.scores.assign(ablation=ablation) for ablation, result in results.items()]
        minutes = results[name].minutes
    scores = pd.concat(tables, ignore_index=True)
    return scores.assign(fold=fold, seed=seed, minutes=minutes, fingerprint=provenance.fingerprint(candidate))


if __name__ == "__main__":
    main(stage_item())
