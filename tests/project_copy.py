"""Copy this project to a git repository of its own, to run DVC in it."""

import copy
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import yaml
from dvc.repo import Repo

from tests.frames import disc, png
from training.workspace.nerve_parameters import NerveParameters
from training.workspace.parameter_validation import validate_section

ROOT = Path(__file__).parent.parent
COPIED = (
    "service",
    "training",
    "deploy",
    "docs",
    ".dvc/plots",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
)

TOY_FRAMES = "toy_frames"
TOY = {
    "input": {"height": 80, "width": 112, "normalization": "frame"},
    "tta": "flip",
    "net": {"filters": [8, 16, 32, 64], "stem": 2, "batch_norm": True, "heads": ["mask", "presence", "vessel"]},
    "recipe": {
        "loss": "cross_entropy_dice",
        "batch_size": 8,
        "steps_per_epoch": 40,
        "phases": [{"learning_rate": 5.0e-3, "decay": "cosine"}],
        "ema_momentum": 0.9,
        "patience": 6,
    },
}

# Runs stages in one process, which imports TensorFlow only once. Each argument is a stage, a module and its arguments.
RUN_MODULES = """
import os, runpy, sys
for command in sys.argv[1:]:
    os.environ["DVC_STAGE"], module, *sys.argv[1:] = command.split()
    runpy.run_module(module, run_name="__main__")
"""


def run(project: Path, *command: str, **environment: str) -> str:
    """Run a command in the project, in the environment of this interpreter. Return its output. It must succeed."""
    completed = subprocess.run(
        command,
        cwd=project,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout[-4000:]
    return completed.stdout


def run_stages(project: Path, target: str) -> None:
    """Run the commands of a stage and of those before it as `dvc repro` does, but in one process.

    Twelve stages import TensorFlow for two minutes if each has a process of its own.
    """
    with Repo(str(project)) as repo:
        last = next(stage for stage in repo.index.stages if stage.name == target)
        stages = list(networkx.dfs_postorder_nodes(repo.index.graph, last))  # a stage after those it depends on
    run_modules(project, *(f"{stage.name} {stage.cmd.removeprefix('python -m ')}" for stage in stages))
    run(project, "dvc", "commit", "--force", "--with-deps", target)


def run_modules(project: Path, *commands: str) -> None:
    """Run modules in one process. A command is the name of a DVC stage, a module, and its arguments."""
    run(project, sys.executable, "-c", RUN_MODULES, *commands)


def clean_environment() -> dict[str, str]:
    """Return the environment variables for `run`: no MLflow or DVC settings of this process, and no DVC analytics."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC_"))}
    return inherited | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def nerve(changes: dict[str, Any]) -> NerveParameters:
    """Return the section "nerve" of params.yaml with changed values. Raises ParameterError."""
    section = yaml.safe_load((ROOT / "params.yaml").read_text())["nerve"]
    return validate_section(NerveParameters, section | changes, "nerve")


def write_nerve(folder: Path, changes: dict[str, Any]) -> None:
    """Write a params.yaml that holds only the section "nerve", with changed values."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"nerve": nerve(changes).model_dump()}))


def toy(epochs: int) -> dict[str, Any]:
    """Return the project's parameters with few frames and one candidate that trains fast.

    Its nerves are so bright that the candidate beats both baselines after one epoch, on any machine.
    """
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    section = parameters["nerve"]
    section["source"], section["path"] = "usgra", TOY_FRAMES
    section["refit"] = [source for source in section["refit"] if source != "usgra"]
    section["candidates"], section["unets"] = ["toy"], {"toy": copy.deepcopy(TOY)}
    section["unets"]["toy"]["recipe"]["phases"][0]["epochs"] = epochs
    return parameters


def project_copy(folder: Path, parameters: dict[str, Any]) -> Path:
    """Copy the project with these parameters to `folder`, commit it there, and return the folder."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy_path = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy_path(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    if parameters["nerve"]["path"] == TOY_FRAMES:
        write_toy_frames(folder / TOY_FRAMES)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "toy project"]):
        run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command)
    return folder


def write_toy_frames(folder: Path) -> None:
    """Write four frames of each of twelve subjects, with the layout of usgra-seg.

    Every frame has a vessel, a small grey square; the frames with an odd number have a nerve, a large bright disc.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for subject, number in itertools.product(range(1, 13), range(1, 5)):
        across, down = rng.uniform(0.3, 0.7, 2) if number % 2 else (-1, -1)
        pixels = disc(120, 160, across, down, seed=int(rng.integers(1000)))
        labels = (pixels > 150).astype(np.uint8)
        pixels[100:112, 10:22], labels[100:112, 10:22] = 100, 2
        (folder / "images" / f"{subject}_{number:04}.png").write_bytes(png(pixels))
        (folder / "masks" / f"{subject}_{number:04}.png").write_bytes(png(labels))
