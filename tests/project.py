"""A copy of this project as its own git repository, to run DVC in."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from training.parameters import Nerve, held

ROOT = Path(__file__).parent.parent
COPIED = (
    "service",
    "training",
    "deploy",
    "docs",
    "folds",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
)

TOY = {
    "input": {"height": 80, "width": 112, "normalisation": "frame"},
    "mirrored": True,
    "net": {"filters": [8, 16, 32, 64], "stem": 2, "batch_norm": True, "heads": ["mask", "presence", "vessel"]},
    "recipe": {
        "loss": "cross_entropy_dice",
        "batch": 8,
        "steps": 40,
        "phases": [{"learning_rate": 5.0e-3, "decay": "cosine"}],
        "average": 0.9,
        "patience": 6,
    },
}


def run(project: Path, *command: str, **environment: str) -> str:
    """A command's output, in the project, as somebody with the environment active would type it."""
    done = subprocess.run(
        command,
        cwd=project,
        env=surroundings() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def surroundings() -> dict[str, str]:
    """The environment of such a command: no store of this project, nobody told."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DVC_"))}
    return inherited | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def nerve(changes: dict[str, Any]) -> Nerve:
    """This project's section of params.yaml with other values. Raises ParameterError."""
    given = yaml.safe_load((ROOT / "params.yaml").read_text())["nerve"]
    return held(Nerve, given | changes, "nerve")


def write_nerve(folder: Path, changes: dict[str, Any]) -> None:
    """A params.yaml of that section alone."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"nerve": nerve(changes).model_dump()}))


def toy(epochs: int) -> dict[str, Any]:
    """This project's parameters with few frames and one candidate that learns fast."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    nerve = parameters["nerve"]
    nerve["phantom"] = {"subjects": 12, "frames": 4, "seed": 1}
    nerve["race"], nerve["unets"] = ["toy"], {"toy": copy.deepcopy(TOY)}
    nerve["unets"]["toy"]["recipe"]["phases"][0]["epochs"] = epochs
    return parameters


def project_copy(folder: Path, parameters: dict[str, Any]) -> Path:
    """The project in `folder` with these parameters, all committed."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a toy"]):
        run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command)
    return folder
