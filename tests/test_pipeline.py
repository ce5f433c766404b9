"""The pipeline from end to end under DVC, at toy size: what runs, what does not run again, what MLflow is told."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.project import ROOT, project_copy, run, toy
from training import refit
from training.evaluate import open_network


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The nerve half with one toy candidate and few frames, run once."""
    folder = project_copy(tmp_path_factory.mktemp("project"), toy(epochs=6))
    run(folder, "dvc", "repro", "package", "explain")
    return folder


def test_it_ends_in_a_champion_that_the_service_takes(project):
    from service.card import Card

    card = Card.read(project / "models" / "champion")
    assert card.candidate == "toy"
    assert card.trained_on.source == "phantom"
    assert card.data == yaml.safe_load((project / "dvc.lock").read_text())["stages"]["ingest"]["outs"][0]["md5"]
    test = json.loads((project / "reports/evaluate/toy/metrics.json").read_text())["test"]
    assert json.loads((project / "reports/evaluate/toy/figures.json").read_text())["test"] == test["dice"]
    assert card.metrics["test"]["dice"] == test["dice"]
    assert card.metrics["parity"]["float32_largest_difference"] <= 1e-3


def test_the_bento_holds_the_champion_and_no_tensorflow(project):
    bento = project / "models" / "nervemask.bento"
    listed = subprocess.run(["tar", "tf", bento], capture_output=True, text=True, check=True).stdout
    assert "./src/models/champion/card.json" in listed
    assert "./src/service/app.py" in listed
    assert "training/" not in listed
    wanted = subprocess.run(
        ["tar", "xOf", bento, "./env/python/requirements.txt"], capture_output=True, text=True, check=True
    ).stdout
    assert "openvino==" in wanted
    assert not {"tensorflow", "keras", "mlflow", "dvc"} & {line.split("==")[0] for line in wanted.splitlines()}


def test_the_champion_is_explained_on_one_page_that_fetches_nothing(project):
    page = (project / "reports/champion.html").read_text()
    test = json.loads((project / "reports/evaluate/toy/metrics.json").read_text())["test"]
    assert f"{test['dice']:.3f} ({test['dice_low']:.3f} to {test['dice_high']:.3f})" in page
    assert len(re.findall(r'src="data:image/png;base64,', page)) == page.count("src=") == 3
    assert "href=" not in page
    assert list((project / "mlartifacts").rglob("champion.html"))


def test_no_subject_stands_on_two_sides(project):
    manifest = pd.read_csv(project / "data/frames/manifest.csv", dtype={"subject": str})
    split = pd.read_csv(project / "data/split/split.csv").merge(manifest, on="frame")
    sides = split[split["split"] != "left_out"].groupby("subject")["split"].nunique()
    assert len(split) == 48
    assert (sides == 1).all()


def test_training_needs_no_file_of_the_test_split(project, tmp_path):
    """What is not there cannot be looked at. train_unet then reads prepare's arrays, and no frame at all."""
    copy = shutil.copytree(project, tmp_path / "copy")
    for file in files_of_the_test_split(copy):
        file.unlink()
    shutil.rmtree(copy / "data/prepared")
    run(copy, "python", "-m", "training.prepare", "toy")
    shutil.rmtree(copy / "data/frames")
    run(copy, "python", "-m", "training.train_unet", "toy")
    for array in (project / "data/prepared").rglob("*.npy"):
        assert np.array_equal(np.load(array), np.load(copy / array.relative_to(project))), array


def test_noise_in_the_test_split_moves_its_figures_and_no_decision(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    rng = np.random.default_rng(0)
    for file in files_of_the_test_split(copy):
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        noise = rng.integers(0, 2 if file.parent.name == "masks" else 256, pixels.shape).astype(pixels.dtype)
        file.unlink()
        cv2.imwrite(str(file), noise)
    for stage in (["split"], ["evaluate", "toy"], ["champion"], ["refit"], ["package"]):
        run(copy, "python", "-m", f"training.{stage[0]}", *stage[1:])

    sides = (pd.read_csv(place / "data/split/split.csv").set_index("frame")["split"] for place in (project, copy))
    assert next(sides).equals(next(sides))
    (before, card), (after, other_card) = (
        [json.loads((place / file).read_text()) for file in ("reports/champion.json", "models/champion/card.json")]
        for place in (project, copy)
    )
    # The noise was scored: no mask of it is empty, as about half were.
    assert before["race"]["toy"]["test"]["baseline_empty"] > after["race"]["toy"]["test"]["baseline_empty"] == 0
    assert before["candidate"] == after["candidate"]
    for of in ("decision", "validation"):
        assert before["race"]["toy"][of] == after["race"]["toy"][of]
    for of in ("decision", "input", "familiar", "usual", "trained_on"):
        assert card[of] == other_card[of]
    # Which of the precisions that are good enough is the quickest, the clock says.
    good_enough, also = (
        {name: of["validation_dice_change"] for name, of in one["metrics"]["parity"]["precisions"].items()}
        for one in (card, other_card)
    )
    assert good_enough == also


def test_what_is_served_may_learn_every_frame_and_is_judged_by_the_net_that_did_not(project, tmp_path):
    from mlflow import MlflowClient

    copy = shutil.copytree(project, tmp_path / "copy")
    parameters = yaml.safe_load((copy / "params.yaml").read_text())
    parameters["nerve"]["refit"] = ["phantom"]
    (copy / "params.yaml").write_text(yaml.safe_dump(parameters))
    ran = run(copy, "dvc", "repro", "package", "explain")
    assert {line.split("'")[1] for line in ran.splitlines() if line.startswith("Running stage")} == {
        "refit",
        "package",
        "explain",
    }
    before, after = (json.loads((place / "models/champion/card.json").read_text()) for place in (project, copy))
    assert (before["refit"], after["refit"]) == (False, True)
    assert before["trained_on"]["frames"] < after["trained_on"]["frames"] == 48
    assert before["decision"] == after["decision"]
    assert before["usual"]["confidence"] == after["usual"]["confidence"]
    assert before["metrics"]["test"] == after["metrics"]["test"]
    assert after["files"]["unet.onnx"] != before["files"]["unet.onnx"]
    assert "all 48 frames" in (copy / "reports/champion.html").read_text()

    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    served = client.get_run(client.get_model_version_by_alias("nerve-unet", "champion").run_id)
    assert served.info.run_id == after["run_id"] != before["run_id"]
    assert served.data.tags["judged"] == before["run_id"]
    assert {"loss", "mask_dice", "learnt_dice"} <= served.data.metrics.keys()
    assert not any(name.startswith("val_") for name in served.data.metrics)


def test_what_is_worse_than_the_judged_net_ends_the_stage(project, monkeypatch):
    monkeypatch.chdir(project)
    figures = json.loads(Path("reports/champion.json").read_text())["race"]["toy"]
    network, dice = open_network(Path("models/unets/toy"), figures["mirrored"]), figures["test"]["dice"]
    assert refit.check(network, figures) == pytest.approx(dice, abs=1e-4)
    with pytest.raises(SystemExit, match=r"a Dice of 0\.\d+ on the test split.*nerve\.refit"):
        refit.check(network, figures | {"test": figures["test"] | {"dice": dice + 2 * refit.SHORT}})


def test_a_run_takes_the_figures_of_another_decision(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    parameters = yaml.safe_load((copy / "params.yaml").read_text())
    parameters["nerve"]["unets"]["toy"]["mirrored"] = False
    (copy / "params.yaml").write_text(yaml.safe_dump(parameters))
    run(copy, "python", "-m", "training.evaluate", "toy")
    before, after = (
        json.loads((place / "reports/evaluate/toy/metrics.json").read_text())["decision"] for place in (project, copy)
    )
    assert before != after


def files_of_the_test_split(project: Path) -> list[Path]:
    """Frames and masks of the test split."""
    split = pd.read_csv(project / "data/split/split.csv").merge(
        pd.read_csv(project / "data/frames/manifest.csv"), on="frame"
    )
    tested = split[split["split"] == "test"]
    return [project / "data/frames" / name for name in (*tested["frame"], *tested["mask"])]


def test_a_second_run_does_nothing(project):
    again = run(project, "dvc", "repro", "package")
    assert "Running stage" not in again
    assert "up to date" in again


def test_a_changed_learning_rate_reruns_the_training_and_nothing_before_it(project):
    parameters = project / "params.yaml"
    before = parameters.read_text()
    changed = yaml.safe_load(before)
    changed["nerve"]["unets"]["toy"]["recipe"]["phases"][0]["learning_rate"] = 4.0e-3
    try:
        parameters.write_text(yaml.safe_dump(changed))
        planned = run(project, "dvc", "repro", "--dry", "package")
    finally:
        parameters.write_text(before)
    rerun = {line.split("'")[1] for line in planned.splitlines() if line.startswith("Running stage")}
    assert rerun == {"train_unet@toy"}  # what follows, follows from its changed outputs


def test_no_stage_of_a_candidate_depends_on_another_candidate():
    from dvc.repo import Repo

    race = ("lecture", "light", "deep")
    for stage in Repo(str(ROOT)).index.stages:
        name, _, of = stage.addressing.partition("@")
        candidate = of.partition("-")[0]  # of deep-1, a fold
        others = [other for other in race if other != candidate] if candidate else []
        needed = [str(dependency) for dependency in stage.deps]
        needed += [key for dependency in stage.deps for key in getattr(dependency, "params", [])]
        assert not [need for need in needed for other in others if other in need.replace("highlight", "")], name


def test_an_interrupted_training_leaves_nothing_that_is_believed(project):
    parameters = project / "params.yaml"
    before = parameters.read_text()
    changed = yaml.safe_load(before)
    recipe = changed["nerve"]["unets"]["toy"]["recipe"]
    recipe["phases"][0]["epochs"], recipe["patience"] = 50_000, None
    try:
        parameters.write_text(yaml.safe_dump(changed))
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-m", "training.train_unet", "toy"], cwd=project, timeout=25)
    finally:
        parameters.write_text(before)
    assert "Running stage" not in run(project, "dvc", "repro", "package")


def test_the_run_in_mlflow_says_what_it_was(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    version = client.get_model_version_by_alias("nerve-unet", "champion")
    made = client.get_run(version.run_id)
    assert made.data.params["net.filters"] == "[8, 16, 32, 64]"
    assert made.data.params["recipe.phases.1.learning_rate"] == "0.005"
    assert {"git.commit", "git.dirty", "dvc.stage", "data", "weights"} <= set(made.data.tags)
    assert made.data.tags["dvc.stage"] == "train_unet@toy"
    assert made.data.tags["git.dirty"] == "false"
    assert len(client.get_metric_history(version.run_id, "val_mask_dice")) == 6
    assert {"test_dice", "validation_dice", "test_baseline_empty"} <= set(made.data.metrics)
    assert [entry.dataset.name for entry in made.inputs.dataset_inputs] == ["train", "validation"]
    pictures = [file.path for file in client.list_artifacts(version.run_id, "images")]
    assert len([name for name in pictures if name.endswith(".png")]) >= 6


def test_an_experiment_elsewhere_lands_in_the_same_store(project):
    from mlflow import MlflowClient

    run(
        project,
        "dvc",
        "exp",
        "run",
        "--temp",
        "--name",
        "sweep",
        "-S",
        "nerve.unets.toy.recipe.batch=4",
        "train_unet@toy",
    )
    assert "sweep" in run(project, "dvc", "exp", "show", "--csv")
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("nerve").experiment_id])
    assert {"4", "8"} <= {run.data.params.get("recipe.batch") for run in runs}
