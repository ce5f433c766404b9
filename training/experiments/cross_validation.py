"""Stage cross_validation: train and score a candidate on one of five folds.

`python -m training.experiments.cross_validation CANDIDATE FOLD`, with FOLD from 1 to 5
(`dvc repro training/experiments/dvc.yaml:cross_validation@CANDIDATE-FOLD`), writes to
reports/cross_validation/CANDIDATE/FOLD
  frames.csv  a row per held-out frame
  sheet.png   the best, median and worst held-out frames

Folds hold out whole subjects, or contiguous blocks of frames if subjects are not recorded. If `nerve.split.blocks`
makes each frame a block, frames are held out at random. The groups after the held-out ones are validation: for early
stopping and for postprocessing. The test split takes no part, so it can still test a choice that these metrics led to.
`training.experiments.cross_validation_report` compares all candidates.
"""

import sys
import time

import mlflow

from training.evaluation.example_sheets import select_examples, write_sheet
from training.evaluation.inference import open_network
from training.evaluation.summary import summarize_dice
from training.experiments.fold_training import score_held_out, train_on_fold
from training.experiments.folds import FOLDS, rows_of_fold
from training.workspace import parameters, paths, provenance, tracking
from training.workspace.atomic_folder import atomic_folder

EXPERIMENT = "cross_validation"


def main(name: str, fold: int) -> None:
    if not 1 <= fold <= FOLDS:
        raise SystemExit(f"cross_validation: fold {fold} does not exist. Give a fold from 1 to {FOLDS}.")

    candidate, nerve, title = parameters.candidate(name), parameters.nerve(), f"{name}, fold {fold}"
    rows = rows_of_fold(fold - 1, nerve.split.validation)
    tracking.use_experiment(EXPERIMENT)
    with (
        atomic_folder(paths.CROSS_VALIDATION / name / str(fold)) as folder,
        mlflow.start_run(run_name=title, tags=tracking.run_tags(nerve.source)),
    ):
        mlflow.log_params(tracking.flatten(candidate.model_dump()))
        start = time.perf_counter()
        with train_on_fold(candidate, rows, nerve.seed, title) as network_folder:
            minutes = (time.perf_counter() - start) / 60
            network = open_network(network_folder, candidate.tta)
            config, scores = score_held_out(network, rows)
        scores.assign(fold=fold, minutes=minutes, fingerprint=provenance.fingerprint(candidate)).to_csv(
            folder / "frames.csv", index=False
        )
        write_sheet(folder / "sheet.png", network, config, scores, select_examples(scores)["sheet"])
        mlflow.log_metrics({"minutes": minutes, **summarize_dice(scores["dice"])})
        mlflow.log_artifacts(str(folder))
    print(f"{title}: Dice {scores['dice'].mean():.3f} after {minutes:.0f} minutes of training")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
