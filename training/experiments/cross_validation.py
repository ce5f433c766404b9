"""Stage cross_validation: train and score a candidate on each of five folds.

`python -m training.experiments.cross_validation CANDIDATE`
(`dvc repro training/experiments/dvc.yaml:cross_validation@CANDIDATE`) writes to
reports/cross_validation/CANDIDATE/FOLD, with FOLD from 1 to 5
  frames.csv  a row per held-out frame
  sheet.png   the best, median and worst held-out frames

Folds hold out whole subjects, or contiguous blocks of frames if subjects are not recorded. If `nerve.split.blocks`
makes each frame a block, frames are held out at random. The groups after the held-out ones are validation: for early
stopping and for postprocessing. The test split takes no part, so it can still test a choice that these metrics led to.
`training.experiments.cross_validation_report` compares all candidates.
"""

from pathlib import Path

import mlflow

from training.evaluation.example_sheets import select_examples, write_sheet
from training.experiments.fold_training import train_and_score
from training.experiments.folds import FOLDS
from training.experiments.ray_trainings import Training, digest_inputs, run_trainings
from training.workspace import nerve_parameters, paths, provenance, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import check_outputs

EXPERIMENT = "cross_validation"


def main(name: str) -> None:
    candidate, seed = nerve_parameters.read_candidate(name), nerve_parameters.read_nerve_parameters().seed
    check_outputs(paths.FRAMES, paths.SPLIT)
    trainings = [
        Training(
            title=f"{name}, fold {fold}",
            folder=paths.CROSS_VALIDATION / name / str(fold),
            function=train_fold,
            arguments=(name, fold, candidate, seed),
            inputs=digest_inputs(candidate, fold, seed),
        )
        for fold in range(1, FOLDS + 1)
    ]
    run_trainings(f"{name}, {FOLDS} folds", EXPERIMENT, trainings)


def train_fold(folder: Path, parent_run: str, name: str, fold: int, candidate: Candidate, seed: int) -> None:
    """Train a candidate on a fold, as a run of MLflow, and write the results into `folder`."""
    title = f"{name}, fold {fold}"
    tracking.use_experiment(EXPERIMENT)
    with train_and_score(candidate, fold, seed, title, {name: candidate.tta}, parent_run) as results:
        network, config, scores, minutes = results[name]
        scores.assign(fold=fold, minutes=minutes, fingerprint=provenance.fingerprint(candidate)).to_csv(
            folder / "frames.csv", index=False
        )
        write_sheet(folder / "sheet.png", network, config, scores, select_examples(scores)["sheet"])
        mlflow.log_artifacts(str(folder))
    print(f"{title}: Dice {scores['dice'].mean():.3f} after {minutes:.0f} minutes of training")


if __name__ == "__main__":
    main(stage_item())
