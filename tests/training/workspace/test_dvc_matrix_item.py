"""The item of a stage. A name of params.yaml never reaches the shell that runs the stage."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.project_copy import clean_environment, project_copy, run, toy
from training.workspace.dvc_matrix_item import stage_item

EXPERIMENTS = "training/experiments/dvc.yaml"
ATTACK = "toy;touch executed;#"


@pytest.mark.parametrize(
    ("arguments", "stage", "item"),
    [
        (["toy"], "prepare@other", "toy"),
        ([], "prepare@toy", "toy"),
        ([], "../x@y/training/experiments/dvc.yaml:cross_validation@deep", "deep"),
    ],
)
def test_the_item_is_the_argument_or_that_of_the_running_stage(monkeypatch, arguments, stage, item) -> None:
    monkeypatch.setattr("sys.argv", ["stage", *arguments])
    monkeypatch.setenv("DVC_STAGE", stage)
    assert stage_item() == item


@pytest.mark.parametrize("stage", ["", "ingest"])
def test_no_item_is_an_error(monkeypatch, stage) -> None:
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv("DVC_STAGE", stage)
    with pytest.raises(SystemExit, match=r"give a name of params\.yaml"):
        stage_item()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose candidate and ablation have a name that a shell would execute. Its frames and split are made."""
    folder = project_copy(tmp_path_factory.mktemp("project"), toy(epochs=1))
    run(folder, "dvc", "repro", "split")
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    nerve = parameters["nerve"]
    nerve["candidates"], nerve["unets"] = [ATTACK], {ATTACK: nerve["unets"]["toy"]}
    nerve["ablations"]["changes"][ATTACK] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    return folder


@pytest.mark.training
@pytest.mark.parametrize(
    "options",
    [
        ["prepare"],
        ["--force", "package"],
        ["--single-item", f"prepare@{ATTACK}"],
        ["--single-item", f"train_unet@{ATTACK}"],
        ["--single-item", f"evaluate@{ATTACK}"],
        ["--single-item", f"{EXPERIMENTS}:cross_validation@{ATTACK}"],
        ["--single-item", f"{EXPERIMENTS}:ablation@{ATTACK}"],
    ],
    ids=lambda options: options[-1].replace(ATTACK, "attack"),
)
def test_a_name_is_not_executed(project: Path, options: list[str]) -> None:
    run(project, "dvc", "checkout", "--with-deps", "split")  # what DVC removed before a stage that failed
    for stage, folder in (("train_unet", "data/prepared"), ("evaluate", "models/unets")):
        if stage in options[-1]:  # DVC runs a stage only if its dependencies exist
            (project / folder / ATTACK).mkdir(parents=True)
    command = ["dvc", "repro", *options]
    repro = subprocess.run(command, cwd=project, env=clean_environment(), capture_output=True, text=True)
    assert not list(project.rglob("executed*"))
    assert repro.returncode != 0
    assert f"'{ATTACK}' is not a name: use at most 64 letters" in repro.stderr
    shutil.rmtree(project / "data/prepared", ignore_errors=True)
    shutil.rmtree(project / "models", ignore_errors=True)
