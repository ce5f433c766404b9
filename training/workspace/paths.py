"""Paths that the stages read and write, relative to the working directory. `dvc.yaml` names the same paths."""

import os
from pathlib import Path

FRAMES = Path("data/frames")  # manifest.csv, frames/, masks/, left_out.csv
SPLIT_TABLE = Path("data/split/split.csv")
PREPARED = Path("data/prepared")  # a folder for each candidate
MNIST = Path("data/mnist")

UNETS = Path("models/unets")  # a folder for each candidate
REFIT = Path("models/refit")
REFIT_RUN = REFIT / "run.json"
CHAMPION_FOLDER = Path("models/champion")  # the service reads it
BENTO = Path("models/nervemask.bento")
DIGIT_NETS = Path("models/digits")

REPORTS = Path("reports")
EVALUATION = REPORTS / "evaluate"  # a folder for each candidate
CHAMPION = REPORTS / "champion.json"
CANDIDATES = REPORTS / "candidates"  # all candidates in one table, for DVC's metrics and plots
CHAMPION_PAGE = REPORTS / "champion.html"
SUBMISSION = REPORTS / "submission.csv"
CROSS_VALIDATION = REPORTS / "cross_validation"  # CANDIDATE/FOLD
CROSS_VALIDATION_REPORT = REPORTS / "cross_validation_report"
ABLATION = REPORTS / "ablation"  # a folder for each run
ABLATION_REPORT = REPORTS / "ablation_report"
DIGITS = REPORTS / "digits"


def project_root() -> Path:
    """Return the project's root: it holds the MLflow store, and relative paths in params.yaml start there.

    `dvc exp run --temp` runs stages in a copy of the project. DVC_ROOT then still names the original.
    """
    return Path(os.environ.get("DVC_ROOT", os.getcwd()))
