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

import mlflow

from training.evaluation.example_sheets import select_examples, write_sheet
from training.experiments.fold_training import train_and_score
from training.experiments.folds import FOLDS
from training.workspace import nerve_parameters, paths, provenance, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.output_checksums import check_outputs, output_folder

EXPERIMENT = "cross_validation"


def main(name: str, fold: int) -> None:
    if not 1 <= fold <= FOLDS:
        raise SystemExit(f"cross_validation: fold {fold} does not exist. Give a fold from 1 to {FOLDS}.")

    candidate, seed = nerve_parameters.read_candidate(name), nerve_parameters.read_nerve_parameters().seed
    title = f"{name}, fold {fold}"
    check_outputs(paths.FRAMES, paths.SPLIT)
    tracking.use_experiment(EXPERIMENT)
    with (
        output_folder(paths.CROSS_VALIDATION / name / str(fold)) as folder,
        train_and_score(candidate, fold, seed, title, {name: candidate.tta}) as results,
    ):
        network, config, scores, minutes = results[name]
        scores.assign(fold=fold, minutes=minutes, fingerprint=provenance.fingerprint(candidate)).to_csv(
            folder / "frames.csv", index=False
        )
        write_sheet(folder / "sheet.png", network, config, scores, select_examples(scores)["sheet"])
        mlflow.log_artifacts(str(folder))
    print(f"{title}: Dice {scores['dice'].mean():.3f} after {minutes:.0f} minutes of training")


if __name__ == "__main__":
    candidate_name, _, fold_number = stage_item().rpartition("-")
    main(candidate_name, int(fold_number))
