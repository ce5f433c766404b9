"""A copy of this project as its own git repository, to run DVC in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
COPIED = (
    "service",
    "training",
    "deploy",
    "docs",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
)


def run(project: Path, *command: str, **environment: str) -> str:
    """A command's output, in the project, as somebody with the environment active would type it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DVC_"))}
    done = subprocess.run(
        command,
        cwd=project,
        env=inherited | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def project_copy(folder: Path, parameters: dict[str, Any]) -> Path:
    """The project in `folder` with these parameters, all committed."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a toy"]):
        run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command)
    return folder
