"""Every measurement runs from its command to its report. Shortened to seconds, on a project with a toy champion."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import augmentation, larger_than_memory, scaling
from benchmarks.__main__ import PARTS
from tests.project_copy import ROOT, clean_environment, project_copy, run_stages, toy
from training.workspace.nerve_parameters import read_candidate

pytestmark = pytest.mark.training

# Sets constants of modules, then runs a module as `python -m` does.
RUN = """
import json, runpy, sys
from importlib import import_module
constants, module, *sys.argv[1:] = sys.argv[1:]
for name, value in json.loads(constants).items():
    setattr(import_module(f"benchmarks.{name.split('.')[0]}"), name.split(".")[1], value)
import_module(f"benchmarks.{module}").main(*([sys.argv[1:]] if module == "__main__" else []))
"""
# A loaded machine starts a server with TensorFlow slowly. No measurement may end because of that.
PATIENCE = {"compared_servers.MAX_START_SECONDS": 600}
SHORT_PARTS: dict[str, dict[str, Any]] = {
    "serving": {
        "serving.ROUNDS": 1,
        "serving.ROUND_SECONDS": 0.3,
        "serving.OPEN_LOOP_SECONDS": 1.0,
        "serving.MANY_CLIENTS_SECONDS": 2.0,
        "serving.CONNECTIONS": [1, 8],
        "serving.OPEN_LOOP_LOADS": [0.5],
        "serving.LONG_RUN_REQUESTS": 40,
        "serving.FIRST_REQUESTS": 20,
        "serving.STARTS": 1,
    },
    "cine": {"cine.FRAMES": 30, "cine.ROUNDS": 1, "cine.WARM_UP_REQUESTS": 1, "cine.SINGLE_REQUESTS": 2},
    "codecs": {"codecs.REPEATS": 2},
    "scaling": {
        "scaling.INPUT_SIZES": [[32, 64], [64, 96]],
        "scaling.FRAME_SIDES_PX": [128, 256],
        "scaling.CINE_FRAMES": [1, 10],
        "scaling.CLIENTS": [1, 2],
        "scaling.TRAINING_FRAMES": [10],
        "scaling.LOAD_SECONDS": 1.0,
    },
    "roofline": {"roofline.REPEATS": 6, "roofline.MATRIX_SIZE": 256},
    "training": {
        "training.ROUNDS": 1,
        "training.EPOCHS": 2,
        "training_memory.EPOCHS": 2,
        "training_memory.SETTINGS": ["this project"],
    },
}
SHORT_COMMANDS = {
    "upload_fuzz": ["--uploads", "100"],
    "coverage_fuzz": ["--seconds", "5"],
    "soak": ["--minutes", "0.2"],
    "pipeline_kills": ["--kills", "1", "--target", "split"],
    "gpu": ["--stand-in"],
    "batching": [],
    "capacity": [],
}
SHORT_CONSTANTS: dict[str, dict[str, Any]] = {
    "gpu": {
        "gpu.WORKERS": [1],
        "gpu.LOAD_SECONDS": 1.0,
        "gpu.WARM_UP_SECONDS": 1.0,
        "gpu.PHANTOM_FRAMES": 2,
        "gpu.BATCH_REPEATS": 1,
        "gpu.CODEC_SECONDS": 0.2,
        "gpu.TRAINED": [],
    },
    "batching": {"batching.ROUNDS": 1, "batching.SECONDS": 0.5},
    "capacity": {
        "capacity.SECONDS": 1.0,
        "capacity.LOADS": [0.4],
        "capacity.RATES": [100],
        "capacity.SIMULATED_FRAMES": 500,
        "capacity.TARGETS_PER_CORE": [1.0],
        "capacity.DAY_HOURS": 1,
    },
}
REPORTS = {"coverage_fuzz": "upload_fuzz", "batching": "gpu"}  # of the commands whose report has another name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the measurements and a champion that trained for an epoch."""
    parameters, light = toy(epochs=1), read_candidate(scaling.CANDIDATE)
    parameters["nerve"]["unets"][scaling.CANDIDATE] = light.model_dump()
    folder = project_copy(tmp_path_factory.mktemp("project"), parameters)
    for package in ("benchmarks", "tests"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.json", "*.md", "__pycache__")
        )
    run_stages(folder, "package")
    return folder


def run_measurement(project: Path, constants: dict[str, Any], *arguments: str) -> str:
    """Run a measurement; return its output. It may end with violated limits: they depend on the machine's speed."""
    command = [sys.executable, "-c", RUN, json.dumps(PATIENCE | constants), *arguments]
    process = subprocess.run(command, cwd=project, env=clean_environment(), capture_output=True, text=True)
    assert "Traceback" not in process.stderr, process.stderr[-4000:]
    return process.stdout


def test_every_part_has_a_short_run() -> None:
    assert SHORT_PARTS.keys() == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_report(project: Path, part: str) -> None:
    run_measurement(project, SHORT_PARTS[part], "__main__", part)
    assert f"`python -m benchmarks {part}` on" in (project / "benchmarks/report.md").read_text()


@pytest.mark.parametrize("name", SHORT_COMMANDS)
def test_a_command_with_a_report_of_its_own(project: Path, name: str) -> None:
    run_measurement(project, SHORT_CONSTANTS.get(name, {}), name, *SHORT_COMMANDS[name])
    report = project / "benchmarks" / f"{REPORTS.get(name, name)}.md"
    assert f"`python -m benchmarks.{name}` on" in report.read_text()


def test_the_phantom_of_the_competition_is_written_and_scored(project: Path, tmp_path: Path) -> None:
    sizes = {"SUBJECTS": 2, "FRAMES_PER_SUBJECT": 2, "COMPETITION_FRAMES": 3}
    constants = {f"kaggle_phantom.{name}": value for name, value in sizes.items()}
    folder = tmp_path / "competition"
    run_measurement(project, constants, "kaggle_phantom", str(folder))
    assert len(list((folder / "test").iterdir())) == 3
    output = run_measurement(project, {}, "kaggle_phantom", str(folder), "--submission", str(folder / "solution.csv"))
    assert "mean Dice 1.0000 of 3 frames" in output


def test_a_data_set_larger_than_memory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the memory limit, and smaller than memory."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(larger_than_memory, "CANDIDATE", "toy")
    monkeypatch.setattr(larger_than_memory, "WARM_UP_STEPS", 1)
    row = larger_than_memory.measure_in_this_process(64, project / "arrays")
    assert "| 64 " in larger_than_memory.to_markdown([row])


def test_augmentation_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Albumentations, which is not one of the project's dependencies."""
    monkeypatch.setattr(augmentation, "ROUNDS", 1)
    monkeypatch.setattr(augmentation, "FRAMES_PER_ROUND", 1)
    monkeypatch.setattr(augmentation, "albumentations_by_part", dict)
    assert "| flip and affine" in augmentation.to_markdown(augmentation.measure())
