"""What a result was made from: the commit, the data, the parameters and the network's file."""

import hashlib
import subprocess
import sys
from pathlib import Path

import yaml

from training.workspace import paths
from training.workspace.parameters import Candidate

FRAMES_OUTPUT = paths.FRAMES.as_posix()
SPLIT_OUTPUT = paths.SPLIT_TABLE.parent.as_posix()


def git_commit() -> tuple[str, bool]:
    """Return the commit checked out in the working directory, and whether tracked files differ from it.

    Without a commit: ("", True), and a line on standard error with git's reason, for example that the folder belongs to
    another user.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
        print(f"The run and the model card record no commit: {reason}", file=sys.stderr)
        return "", True


def data_digest(output: str = FRAMES_OUTPUT) -> str:
    """Return the md5 of a stage's output from dvc.lock; "" if the pipeline has not run under DVC."""
    lock = Path("dvc.lock")
    if not lock.exists():
        return ""
    stages = yaml.safe_load(lock.read_text()).get("stages", {})
    outputs = [entry for stage in stages.values() for entry in stage.get("outs", [])]
    return next((entry["md5"] for entry in outputs if entry["path"] == output), "")


def fingerprint(candidate: Candidate) -> str:
    """Return a sha256 of all that a trained network depends on: its parameters, the frames and their split."""
    inputs = candidate.model_dump_json() + data_digest() + data_digest(SPLIT_OUTPUT)
    return hashlib.sha256(inputs.encode()).hexdigest()


def weights_digest(network: Path) -> str:
    """Return the sha256 of a network's file. It identifies the run also after DVC restores the file from its cache."""
    with network.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
