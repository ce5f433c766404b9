"""The digits' half of the pipeline under DVC, from end to end at toy size."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.project import ROOT, project_copy, run

NETS = ["one_hidden", "three_hidden", "relu_dropout", "convolutional", "moved"]
LESSONS = [
    "perceptron",
    "universality",
    "backpropagation",
    "cost",
    "descent",
    "regularisation",
    "activations",
    "convolutions",
]


def shortened(mnist: Path) -> dict:
    """The parameters with an epoch where there are many, and small nets where they are large."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    digits = parameters["digits"]
    digits["path"] = str(mnist)
    small = digits["nets"]["one_hidden"]["layers"]
    for net in digits["nets"].values():
        net["phases"] = [net["phases"][0] | {"epochs": 1}]
        net["batch"] = 128
    for name in ("convolutional", "moved"):
        digits["nets"][name]["layers"] = small
    lessons = digits["lessons"]
    lessons["backpropagation"]["epochs"] = 1
    lessons["cost"]["net"]["epochs"] = 2
    lessons["descent"] |= {"digits": 500, "epochs": 1, "learning_rates": [0.01]}
    for name in ("regularisation", "convolutions"):
        lessons[name] |= {"digits": 100, "seeds": [1]}
    lessons["activations"]["digits"] = 200
    for name in ("regularisation", "activations", "convolutions"):
        lessons[name]["recipe"]["phases"][0]["epochs"] = 2
    return parameters


@pytest.fixture(scope="module")
def project(tmp_path_factory, mnist_folder) -> Path:
    """The digits' half, run once."""
    by_hand = tmp_path_factory.mktemp("by-hand") / "mnist"
    shutil.copytree(mnist_folder, by_hand)
    folder = project_copy(tmp_path_factory.mktemp("project"), shortened(by_hand))
    run(folder, "dvc", "repro", "digits_page")
    return folder


@pytest.mark.timeout(900)
def test_every_net_has_its_accuracy_in_the_metrics_and_on_the_page(project):
    shown = run(project, "dvc", "metrics", "show", *(f"reports/digits/{net}/metrics.json" for net in NETS))
    page = (project / "docs/digits.md").read_text()
    for net in NETS:
        metrics = json.loads((project / f"reports/digits/{net}/metrics.json").read_text())
        assert f"{metrics['test_accuracy']:.4f} | {metrics['test_wrong']} |" in page
        assert str(metrics["test_wrong"]) in shown
    assert "{" not in page


def test_every_picture_of_the_page_is_there(project):
    page = (project / "docs/digits.md").read_text()
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == len(LESSONS) + 3
    for picture in pictures:
        assert (project / "docs" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_second_run_does_nothing(project):
    again = run(project, "dvc", "repro", "digits_page")
    assert "Running stage" not in again


def test_a_changed_recipe_trains_that_net_alone(project):
    parameters = project / "params.yaml"
    before = parameters.read_text()
    changed = yaml.safe_load(before)
    changed["digits"]["nets"]["moved"]["batch"] = 64
    try:
        parameters.write_text(yaml.safe_dump(changed))
        planned = run(project, "dvc", "repro", "--dry", "digits_page")
    finally:
        parameters.write_text(before)
    assert {line.split("'")[1] for line in planned.splitlines() if line.startswith("Running stage")} == {
        "train_digits@moved"
    }


def test_the_nets_runs_have_the_same_names_of_figures_and_their_pictures(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(NETS)
    for made in runs:
        assert set(made.data.metrics) >= {"accuracy", "loss", "test_accuracy", "test_loss", "test_wrong", "minutes"}
        assert made.data.metrics.keys() == runs[0].data.metrics.keys()
        assert made.data.tags["net"] == made.info.run_name
        assert made.data.tags["dvc.stage"] == f"train_digits@{made.info.run_name}"
        assert made.data.tags["data"].endswith(".dir")
        files = {file.path for file in client.list_artifacts(made.info.run_id)}
        assert {"confusion.png", "mistakes.png", "predictions.csv"} <= files


def test_every_lesson_is_a_parent_run_with_its_children(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("lessons").experiment_id])
    parents = {run.info.run_id: run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert sorted(parents.values()) == sorted(LESSONS)
    children = [run for run in runs if run.info.run_id not in parents]
    assert {parents[child.data.tags["mlflow.parentRunId"]] for child in children} == set(LESSONS)
    assert all(run.data.params and run.data.metrics and run.data.tags["git.commit"] for run in runs)
    losses = {child.info.run_name for child in children if child.data.tags["lesson"] == "descent"}
    assert losses == {f"{way}, 0.01" for way in ("plain", "momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")}
