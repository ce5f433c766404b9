"""Paths that the stages read and write, relative to the working directory. `dvc.yaml` names the same paths."""

import os
from pathlib import Path

DATA, MODELS, REPORTS = Path("data"), Path("models"), Path("reports")

FRAMES = DATA / "frames"  # manifest.csv, frames/, masks/, left_out.csv
SPLIT = DATA / "split"
SPLIT_TABLE = SPLIT / "split.csv"
PREPARED = DATA / "prepared"  # a folder for each candidate
MNIST = DATA / "mnist"

UNETS = MODELS / "unets"  # a folder for each candidate
REFIT = MODELS / "refit"
REFIT_RUN = REFIT / "run.json"
CHAMPION_FOLDER = MODELS / "champion"  # the service reads it
BENTO = MODELS / "nervemask.bento"
DIGIT_NETS = MODELS / "digits"

EVALUATION = REPORTS / "evaluate"  # a folder for each candidate
AGREEMENT = REPORTS / "agreement"
DISTRIBUTION_SHIFT = REPORTS / "distribution_shift"  # a folder for each candidate
TEMPORAL_CONSISTENCY = REPORTS / "temporal_consistency"
CANDIDATES = REPORTS / "candidates"  # all candidates in one table, for DVC's metrics and plots
CHAMPION = CANDIDATES / "champion.json"
CHAMPION_PAGE = REPORTS / "champion.html"
SUBMISSION = REPORTS / "submission.csv"
CROSS_VALIDATION = REPORTS / "cross_validation"  # CANDIDATE/FOLD
CROSS_VALIDATION_REPORT = REPORTS / "cross_validation_report"
ABLATION = REPORTS / "ablation"  # a folder for each run
SEARCH_REPORT = REPORTS / "search"
SEARCH_TRIALS = REPORTS / "search_trials"  # of Ray Tune: a search that was stopped goes on from here
ABLATION_REPORT = REPORTS / "ablation_report"
DIGITS = REPORTS / "digits"


def project_root() -> Path:
    """Return the project's root: it holds the MLflow store, and relative paths in params.yaml start there.

    `dvc exp run --temp` runs stages in a copy of the project. DVC_ROOT then still names the original.
    """
    return Path(os.environ.get("DVC_ROOT", os.getcwd()))
