"""What a result was made from: the commit, the data, the parameters and the network's file."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from training.workspace import paths
from training.workspace.nerve_parameters import Candidate

FRAMES_OUTPUT = paths.FRAMES.as_posix()
SPLIT_OUTPUT = paths.SPLIT.as_posix()
EXPERIMENTS = Path("training/experiments/dvc.yaml")
OTHER_OWNER = (
    "the project's folder belongs to another user, so git does not read it. Run "
    '`git config --global --add safe.directory "$PWD"`'
)


class GitState(NamedTuple):
    """The commit checked out in the working directory.

    commit: its hash; "" if there is none.
    dirty: whether tracked files differ from it; True without a commit.
    error: why there is no commit; "" if there is one.
    """

    commit: str
    dirty: bool
    error: str = ""


def git_state() -> GitState:
    """Return the commit of this project. Without one, print the reason on standard error too."""
    try:
        # A repository around the project has a commit too, but not of this project.
        _git("ls-files", "--error-unmatch", "params.yaml")
        commit = _git("-c", "log.showSignature=false", "log", "-1", "--format=%H")
        return GitState(commit, bool(_git("status", "--porcelain", "--untracked-files=no")))
    except OSError:
        error = "git is not installed"
    except subprocess.CalledProcessError as failure:
        message = failure.stderr.strip().splitlines()[0].removeprefix("fatal: ").removeprefix("error: ")
        # git's message names the folder. The model card, which others read, must not.
        error = OTHER_OWNER if "dubious ownership" in message else message
    print(f"The run and the model card record no commit: {error}", file=sys.stderr)
    return GitState("", True, error)


def _git(*arguments: str) -> str:
    environment = os.environ | {"LC_ALL": "C"}  # messages in English
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def data_digest(output: str = FRAMES_OUTPUT) -> str:
    """Return the md5 of a stage's output from dvc.lock; "" if the pipeline has not run under DVC."""
    return next((entry["md5"] for _, entry in _locked_outputs() if entry["path"] == output), "")


def find_stage(output: Path) -> str:
    """Return the DVC target of the stage that wrote `output`; "" if the pipeline has not run under DVC."""
    return next((target for target, entry in _locked_outputs() if entry["path"] == output.as_posix()), "")


def _locked_outputs() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each output in the files dvc.lock, with the DVC target of its stage."""
    for prefix, lock in (("", Path("dvc.lock")), (f"{EXPERIMENTS}:", EXPERIMENTS.with_suffix(".lock"))):
        stages = yaml.safe_load(lock.read_text()).get("stages", {}) if lock.exists() else {}
        for name, stage in stages.items():
            yield from ((f"{prefix}{name}", entry) for entry in stage.get("outs", []))


def fingerprint(candidate: Candidate) -> str:
    """Return a sha256 of all that a trained network depends on: its parameters, the frames and their split."""
    inputs = candidate.model_dump_json() + data_digest() + data_digest(SPLIT_OUTPUT)
    return hashlib.sha256(inputs.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file. That of a network identifies its run, also after DVC restores the network."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
