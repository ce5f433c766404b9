"""The nerve half of the pipeline under DVC, from end to end with a toy network: outputs, reruns, MLflow runs."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from service.model.card import Card
from tests.project_copy import ROOT, clean_environment, project_copy, run, run_modules, toy
from tests.training.workspace.test_output_checksums import flip_bit
from training.evaluation.inference import open_network
from training.release.model_card import build_card
from training.release.served_model_dice_check import MAX_TEST_DICE_DROP, check_test_dice
from training.workspace.output_checksums import CHECKSUMS, DamagedOutputError, write_checksums

pytestmark = pytest.mark.training

EPOCHS = 2
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
OUTPUT = re.compile("(data|models|reports)/")
# The outputs that each stage reads, apart from the digits.
OUTPUTS_READ = {
    name: [Path(path.replace("${item.candidate}", "toy")) for path in STAGES[name]["deps"] if OUTPUT.match(path)]
    for name in ("split", "prepare", "train_unet", "evaluate", "champion", "refit", "report", "package")
}


def ran_stages(output: str) -> set[str]:
    """The stages that `dvc repro` ran, or would run, from its output."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def files_of_the_test_split(project: Path) -> list[Path]:
    """Frames and masks of the test split."""
    manifest = pd.read_csv(project / "data/frames/manifest.csv")
    test = pd.read_csv(project / "data/split/split.csv").query("split == 'test'").merge(manifest, on="frame")
    return [project / "data/frames" / name for name in (*test["frame"], *test["mask"])]


@contextmanager
def changed_parameters(project: Path, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Apply `change` to the section `nerve` of params.yaml; restore the file at the end."""
    file = project / "params.yaml"
    original = file.read_text()
    parameters = yaml.safe_load(original)
    change(parameters["nerve"])
    file.write_text(yaml.safe_dump(parameters))
    try:
        yield
    finally:
        file.write_text(original)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with one toy candidate and few frames that ran its nerve half once. It trains without any frame."""
    folder = project_copy(tmp_path_factory.mktemp("project"), toy(EPOCHS))
    frames, hidden_frames = folder / "data/frames", folder / "hidden"
    run(folder, "dvc", "repro", "prepare@toy")
    frames.rename(hidden_frames)
    run(folder, "dvc", "repro", "-s", "train_unet@toy")
    hidden_frames.rename(frames)
    run(folder, "dvc", "repro", "package", "report")
    return folder


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the project, for a test that changes its files."""
    return shutil.copytree(project, tmp_path / "copy")


def test_the_pipeline_makes_a_champion_that_the_service_can_read(project):
    card = Card.read(project / "models" / "champion")
    assert card.candidate == "toy"
    assert card.trained_on.source == "usgra"
    assert card.data == yaml.safe_load((project / "dvc.lock").read_text())["stages"]["ingest"]["outs"][0]["md5"]
    test = read_json(project / "reports/evaluate/toy/metrics.json")["test"]
    assert read_json(project / "reports/candidates/metrics.json")["toy"]["test"] == test["dice"]
    assert card.metrics["test"]["dice"] == test["dice"]
    assert card.metrics["parity"]["float32_largest_difference"] <= 1e-3


def test_the_bento_contains_the_champion_and_not_tensorflow(project):
    bento = project / "models" / "nervemask.bento"
    files = subprocess.run(["tar", "tf", bento], capture_output=True, text=True, check=True).stdout
    assert "./src/models/champion/card.json" in files
    assert "./src/service/app.py" in files
    assert "training/" not in files
    requirements = subprocess.run(
        ["tar", "xOf", bento, "./env/python/requirements.txt"], capture_output=True, text=True, check=True
    ).stdout
    assert "openvino==" in requirements
    assert not {"tensorflow", "keras", "mlflow", "dvc"} & {line.split("==")[0] for line in requirements.splitlines()}


def test_the_report_is_one_page_that_loads_no_other_file(project):
    page = (project / "reports/champion.html").read_text()
    test = read_json(project / "reports/evaluate/toy/metrics.json")["test"]
    assert f"{test['dice']:.3f} ({test['dice_low']:.3f} to {test['dice_high']:.3f})" in page
    assert len(re.findall(r'src="data:image/png;base64,', page)) == page.count("src=") == 3
    assert "href=" not in page
    assert list((project / "mlartifacts").rglob("champion.html"))


def test_all_frames_of_a_subject_are_in_one_split(project):
    manifest = pd.read_csv(project / "data/frames/manifest.csv", dtype={"subject": str})
    split = pd.read_csv(project / "data/split/split.csv").merge(manifest, on="frame")
    splits = split[split["split"] != "left_out"].groupby("subject")["split"].nunique()
    assert len(split) == 48
    assert (splits == 1).all()


def test_training_reads_no_file_of_the_test_split(project, copy):
    """The stage prepare writes the same arrays without these files. In `project`, train_unet ran without any frame."""
    for file in files_of_the_test_split(copy):
        file.unlink()
    write_checksums(copy / "data/frames")
    shutil.rmtree(copy / "data/prepared")
    run_modules(copy, "prepare@toy training.data.prepare toy")
    for array in (project / "data/prepared").rglob("*.npy"):
        assert np.array_equal(np.load(array), np.load(copy / array.relative_to(project))), array


@pytest.mark.parametrize("name", OUTPUTS_READ)
def test_a_stage_ends_with_an_error_if_a_bit_of_what_it_reads_has_flipped(project, monkeypatch, name):
    """In each folder that dvc.yaml names as a dependency: in its largest file, and in its list of checksums."""
    monkeypatch.chdir(project)
    main = import_module(STAGES[name]["cmd"].removeprefix("python -m ")).main
    arguments = ["toy"] if "matrix" in STAGES[name] else []
    lists = [file for output in OUTPUTS_READ[name] for file in output.rglob(CHECKSUMS)]
    assert len(lists) == len(OUTPUTS_READ[name])
    for checksums in lists:
        for file in (max(checksums.parent.rglob("*"), key=lambda path: path.stat().st_size), checksums):
            whole = file.read_bytes()
            flip_bit(file)
            with pytest.raises(DamagedOutputError, match=r"\.repair`"):
                main(*arguments)
            file.write_bytes(whole)


def test_noise_in_the_test_split_changes_its_metrics_and_nothing_else(project, copy):
    rng = np.random.default_rng(0)
    for file in files_of_the_test_split(copy):
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        noise = rng.integers(0, 2 if file.parent.name == "masks" else 256, pixels.shape).astype(pixels.dtype)
        file.unlink()
        cv2.imwrite(str(file), noise)
    write_checksums(copy / "data/frames")
    stages = ("split training.data.split", "evaluate@toy training.evaluation.evaluate toy")
    releases = (f"{stage} training.release.{stage}" for stage in ("refit", "package"))
    run_modules(copy, *stages, "champion training.release.select_champion", *releases)

    splits = [pd.read_csv(folder / "data/split/split.csv").set_index("frame")["split"] for folder in (project, copy)]
    assert splits[0].equals(splits[1])
    champion, noise_champion = (read_json(folder / "reports/candidates/champion.json") for folder in (project, copy))
    card, noise_card = (read_json(folder / "models/champion/card.json") for folder in (project, copy))
    evaluation, noise_evaluation = champion["candidates"]["toy"], noise_champion["candidates"]["toy"]
    # The evaluation used the noise: none of its masks is empty, while about half of the true masks are.
    assert evaluation["test"]["baseline_empty"] > noise_evaluation["test"]["baseline_empty"] == 0
    assert champion["candidate"] == noise_champion["candidate"]
    for field in ("postprocessing", "validation"):
        assert evaluation[field] == noise_evaluation[field]
    for field in ("postprocessing", "input", "out_of_distribution", "reference_stats", "trained_on"):
        assert card[field] == noise_card[field]
    # The choice among good precisions depends on measured times, so only their Dice is compared.
    for precision, entry in card["metrics"]["parity"]["precisions"].items():
        noise_entry = noise_card["metrics"]["parity"]["precisions"][precision]
        assert entry["validation_dice_change"] == noise_entry["validation_dice_change"]


def test_a_refit_is_served_with_the_metrics_of_the_evaluated_model(project, copy):
    with changed_parameters(copy, lambda nerve: nerve.update(refit=["usgra"])):
        output = run(copy, "dvc", "repro", "--dry", "package", "report")
        assert ran_stages(output) == {"refit", "package", "report"}
        run_modules(copy, *(f"{stage} training.release.{stage}" for stage in ("refit", "package", "report")))
    card, refit_card = (read_json(folder / "models/champion/card.json") for folder in (project, copy))
    assert (card["refit"], refit_card["refit"]) == (False, True)
    assert card["trained_on"]["frames"] < refit_card["trained_on"]["frames"] == 48
    assert card["postprocessing"] == refit_card["postprocessing"]
    assert card["reference_stats"]["confidence"] == refit_card["reference_stats"]["confidence"]
    assert card["metrics"]["test"] == refit_card["metrics"]["test"]
    assert card["files"]["unet.onnx"] != refit_card["files"]["unet.onnx"]
    assert "all 48 frames" in (copy / "reports/champion.html").read_text()

    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    served = client.get_run(client.get_model_version_by_alias("nerve-unet", "champion").run_id)
    assert served.info.run_id == refit_card["run_id"] != card["run_id"]
    assert served.data.tags["evaluated_run"] == card["run_id"]
    assert {"loss", "mask_dice", "refit_test_dice"} <= served.data.metrics.keys()
    assert not any(name.startswith("val_") for name in served.data.metrics)


def test_without_git_the_card_says_why_it_has_no_commit(copy, monkeypatch):
    shutil.rmtree(copy / ".git")
    monkeypatch.chdir(copy)
    card = Card.read(copy / "models/champion")
    assert (len(card.commit), card.dirty, card.commit_error) == (40, False, "")
    champion, run_json = read_json(Path("reports/candidates/champion.json")), read_json(Path("models/refit/run.json"))
    rebuilt = build_card(champion, run_json, card.input)
    error = "not a git repository (or any of the parent directories): .git"
    assert (rebuilt.commit, rebuilt.dirty, rebuilt.commit_error) == ("", True, error)


def test_a_model_that_is_worse_than_the_evaluated_one_ends_the_stage(project, monkeypatch):
    monkeypatch.chdir(project)
    evaluation = read_json(Path("reports/candidates/champion.json"))["candidates"]["toy"]
    network, dice = open_network(Path("models/unets/toy"), evaluation["tta"]), evaluation["test"]["dice"]
    assert check_test_dice(network, evaluation) == pytest.approx(dice, abs=1e-4)
    better = evaluation | {"test": evaluation["test"] | {"dice": dice + 2 * MAX_TEST_DICE_DROP}}
    with pytest.raises(SystemExit, match=r"a Dice of 0\.\d+ on the test split.*nerve\.refit"):
        check_test_dice(network, better)


def test_a_changed_learning_rate_reruns_the_training_and_no_stage_before_it(project):
    def change(nerve: dict[str, Any]) -> None:
        nerve["unets"]["toy"]["recipe"]["phases"][0]["learning_rate"] = 4.0e-3

    with changed_parameters(project, change):
        output = run(project, "dvc", "repro", "--dry", "package")
    assert ran_stages(output) == {
        "train_unet@toy"
    }  # later stages rerun because of its outputs, which --dry cannot know


def test_a_second_run_does_nothing_not_even_after_an_interrupted_training(project):
    """The training is killed after its first epoch."""
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("nerve").experiment_id

    def train_long(nerve: dict[str, Any]) -> None:
        recipe = nerve["unets"]["toy"]["recipe"]
        recipe["phases"][0]["epochs"], recipe["steps_per_epoch"], recipe["patience"] = 50_000, 1, None

    def one_epoch_has_passed() -> bool:
        running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
        return any("loss" in run.data.metrics for run in running)

    with changed_parameters(project, train_long):
        command = [sys.executable, "-m", "training.fitting.train_unet", "toy"]
        training = subprocess.Popen(command, cwd=project, env=clean_environment())
        try:
            while not one_epoch_has_passed():
                assert training.poll() is None
                time.sleep(0.5)
        finally:
            training.kill()
            training.wait()
    output = run(project, "dvc", "repro", "package")
    assert not ran_stages(output)
    assert "up to date" in output


def test_the_mlflow_run_has_parameters_tags_metrics_datasets_and_pictures(project):
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    version = client.get_model_version_by_alias("nerve-unet", "champion")
    training = client.get_run(version.run_id)
    assert training.data.params["net.filters"] == "[8, 16, 32, 64]"
    assert training.data.params["recipe.phases.1.learning_rate"] == "0.005"
    assert {"git.commit", "git.dirty", "dvc.stage", "data", "weights"} <= set(training.data.tags)
    assert training.data.tags["dvc.stage"] == "train_unet@toy"
    assert training.data.tags["git.dirty"] == "false"
    assert len(client.get_metric_history(version.run_id, "val_mask_dice")) == EPOCHS
    assert {"test_dice", "validation_dice", "test_baseline_empty"} <= set(training.data.metrics)
    assert [entry.dataset.name for entry in training.inputs.dataset_inputs] == ["train", "validation"]
    pictures = [file.path for file in client.list_artifacts(version.run_id, "images")]
    assert len([name for name in pictures if name.endswith(".png")]) >= EPOCHS


def test_an_experiment_in_another_folder_logs_its_postprocessing_to_the_same_mlflow_run(project):
    # dvc.lock is not committed. Without it, the experiment would run all stages again.
    command = ["dvc", "exp", "run", "--temp", "--copy-paths", "dvc.lock", "--name", "sweep"]
    run(project, *command, "-S", "nerve.unets.toy.tta=none", "--single-item", "evaluate@toy")
    assert "sweep" in run(project, "dvc", "exp", "list", "--name-only")
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    run_id = client.get_model_version_by_alias("nerve-unet", "champion").run_id
    assert len(client.get_metric_history(run_id, "test_dice")) == 2
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith("postprocessing_")]
    assert any(len(client.get_metric_history(run_id, name)) == 2 for name in names)
