"""The digits half of the pipeline under DVC, from end to end, with short trainings."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.project_copy import ROOT, project_copy, run, run_stages
from training.digits.descent import VARIANTS

pytestmark = pytest.mark.training

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


def shortened_parameters(mnist: Path) -> dict:
    """The project's parameters with one or two epochs, and with small networks instead of large ones."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    digits = parameters["digits"]
    digits["path"] = str(mnist)
    small = digits["nets"]["one_hidden"]["layers"]
    for net in digits["nets"].values():
        net["phases"] = [net["phases"][0] | {"epochs": 1}]
        net["batch_size"] = 128
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
    """A project that ran its digits half once."""
    mnist = shutil.copytree(mnist_folder, tmp_path_factory.mktemp("source") / "mnist")
    folder = project_copy(tmp_path_factory.mktemp("project"), shortened_parameters(mnist))
    run(folder, "dvc", "repro", "mnist")  # dvc.lock then has the digest of the data, which the runs log
    run_stages(folder, "digits_page")
    return folder


def test_dvc_metrics_and_the_page_show_the_accuracy_of_each_network(project):
    output = run(project, "dvc", "metrics", "show", *(f"reports/digits/{net}/metrics.json" for net in NETS))
    page = (project / "docs/digits.md").read_text()
    for net in NETS:
        metrics = json.loads((project / f"reports/digits/{net}/metrics.json").read_text())
        assert f"{metrics['test_accuracy']:.4f} | {metrics['test_wrong']} |" in page
        assert str(metrics["test_wrong"]) in output
    assert "{" not in page


def test_all_pictures_of_the_page_exist(project):
    page = (project / "docs/digits.md").read_text()
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == len(LESSONS) + 3
    for picture in pictures:
        assert (project / "docs" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_second_run_does_nothing(project):
    assert "Running stage" not in run(project, "dvc", "repro", "digits_page")


def test_a_changed_recipe_trains_only_that_network_again(project):
    file = project / "params.yaml"
    original = file.read_text()
    parameters = yaml.safe_load(original)
    parameters["digits"]["nets"]["moved"]["batch_size"] = 64
    try:
        file.write_text(yaml.safe_dump(parameters))
        output = run(project, "dvc", "repro", "--dry", "digits_page")
    finally:
        file.write_text(original)
    stages = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert stages == {"train_digits@moved"}


def test_the_networks_runs_have_the_same_metrics_and_their_pictures(project):
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(NETS)
    for net_run in runs:
        name, metrics, tags = net_run.info.run_name, net_run.data.metrics, net_run.data.tags
        assert set(metrics) >= {"accuracy", "loss", "test_accuracy", "test_loss", "test_wrong", "minutes"}
        assert metrics.keys() == runs[0].data.metrics.keys()
        assert tags["net"] == name
        assert tags["dvc.stage"] == f"train_digits@{name}"
        assert tags["data"].endswith(".dir")
        files = {file.path for file in client.list_artifacts(net_run.info.run_id)}
        assert {"confusion.png", "mistakes.png", "predictions.csv"} <= files


def test_each_lesson_is_a_parent_run_with_child_runs(project):
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("lessons").experiment_id])
    parents = {run.info.run_id: run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert sorted(parents.values()) == sorted(LESSONS)
    children = [run for run in runs if run.info.run_id not in parents]
    assert {parents[child.data.tags["mlflow.parentRunId"]] for child in children} == set(LESSONS)
    assert all(run.data.params and run.data.metrics and run.data.tags["git.commit"] for run in runs)
    descent = {child.info.run_name for child in children if child.data.tags["lesson"] == "descent"}
    assert descent == {f"{variant}, 0.01" for variant in VARIANTS}
