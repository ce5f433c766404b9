"""Trainings as Ray tasks: on this machine and on a cluster, with a node that is lost."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from ray.cluster_utils import Cluster

from tests.project_copy import write_nerve
from tests.training.experiments.small_data_set import TINY, runs_of_trainings, write_data_set
from training.experiments import cross_validation, cross_validation_report
from training.experiments.folds import FOLDS
from training.experiments.ray_trainings import Training, digest_inputs, is_finished, remove_other_folders, run_trainings
from training.workspace import nerve_parameters, paths
from training.workspace.output_checksums import output_folder

pytestmark = pytest.mark.training


PARAMETERS = {"candidates": ["tiny"], "unets": {"tiny": TINY}, "resources": {"num_cpus": 1, "num_gpus": 0}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_nerve(tmp_path, PARAMETERS)
    write_data_set(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without cores and two worker nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def fold_scores() -> list[pd.DataFrame]:
    tables = (pd.read_csv(paths.CROSS_VALIDATION / f"tiny/{fold}/frames.csv") for fold in range(1, FOLDS + 1))
    return [table.drop(columns="minutes") for table in tables]


def test_a_cluster_gives_the_results_of_one_machine_and_finished_folds_are_kept(
    project, mlflow_store, monkeypatch, request
) -> None:
    cross_validation.main("tiny")
    on_this_machine = fold_scores()
    cross_validation_report.main()
    assert (paths.CROSS_VALIDATION_REPORT / "table.md").exists()
    client = MlflowClient(mlflow_store)
    runs = runs_of_trainings("cross_validation", client)
    assert sorted(run.info.run_name for run in runs) == [f"tiny, fold {fold}" for fold in range(1, FOLDS + 1)]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1

    # Only what is damaged is trained again.
    kept = (paths.CROSS_VALIDATION / "tiny/1/frames.csv").stat().st_mtime_ns
    (paths.CROSS_VALIDATION / "tiny/2/sheet.png").unlink()
    cross_validation.main("tiny")
    names = [run.info.run_name for run in runs_of_trainings("cross_validation", client)]
    assert (len(names), names.count("tiny, fold 2")) == (FOLDS + 1, 2)
    assert (paths.CROSS_VALIDATION / "tiny/1/frames.csv").stat().st_mtime_ns == kept

    os.rename(paths.CROSS_VALIDATION, project / "first")
    request.getfixturevalue("cluster")
    cross_validation.main("tiny")
    for first, second in zip(on_this_machine, fold_scores(), strict=True):
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def slow_training(folder: Path, parent_run: str, marker: Path) -> None:
    """Take three seconds at the first attempt; write a line a time into `marker`."""
    with marker.open("a") as file:
        file.write("started\n")
    time.sleep(3)
    (folder / "result.txt").write_text("done")


def fail(folder: Path, parent_run: str) -> None:
    raise ValueError("the learning rate is wrong")


def training(project: Path, name: str, function=slow_training, *arguments: object) -> Training:
    return Training(name, project / "results" / name, function, arguments, inputs=f"inputs of {name}")


def test_a_lost_node_costs_only_its_own_training(project, cluster) -> None:
    import threading

    markers = [project / f"marker{number}" for number in range(4)]
    trainings = [training(project, f"t{number}", slow_training, marker) for number, marker in enumerate(markers)]

    def lose_node() -> None:
        while not all(marker.exists() for marker in markers[:2]):
            time.sleep(0.1)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    thread = threading.Thread(target=lose_node)
    thread.start()
    run_trainings("lost node", "cross_validation", trainings)
    thread.join()
    assert all(is_finished(one) for one in trainings)
    starts = sorted(len(marker.read_text().splitlines()) for marker in markers)
    assert starts == [1, 1, 1, 2]


def test_a_failed_training_is_named_and_the_others_are_finished(project) -> None:
    trainings = [training(project, "broken", fail), training(project, "good", slow_training, project / "marker")]
    with pytest.raises(SystemExit, match=r"broken failed: .*the learning rate is wrong"):
        run_trainings("one fails", "cross_validation", trainings)
    assert [is_finished(one) for one in trainings] == [False, True]


def test_a_training_of_other_inputs_or_with_damaged_files_is_not_finished(tmp_path) -> None:
    one = training(tmp_path, "t")
    assert not is_finished(one)
    with output_folder(one.folder) as folder:
        (folder / "inputs.sha256").write_text(one.inputs)
        (folder / "result.txt").write_text("done")
    assert is_finished(one)
    assert not is_finished(one._replace(inputs="another recipe"))
    (one.folder / "result.txt").write_text("changed")
    assert not is_finished(one)


def test_trainings_that_the_experiment_no_longer_has_are_removed(tmp_path) -> None:
    kept, old = training(tmp_path, "kept"), training(tmp_path, "old")
    for one in (kept, old):
        one.folder.mkdir(parents=True)
    remove_other_folders(tmp_path / "results", [kept])
    assert kept.folder.exists()
    assert not old.folder.exists()


def test_a_split_or_resources_of_another_kind_are_other_inputs(project) -> None:
    candidate = nerve_parameters.read_candidate("tiny")
    before = digest_inputs(candidate, 1)
    assert digest_inputs(candidate, 1) == before
    assert digest_inputs(candidate, 2) != before
    split = nerve_parameters.read_nerve_parameters().split.model_dump() | {"validation": 0.14}
    write_nerve(project, PARAMETERS | {"split": split})
    assert digest_inputs(candidate, 1) != before
    write_nerve(project, PARAMETERS | {"resources": {"num_cpus": 2, "num_gpus": 0}})
    assert digest_inputs(candidate, 1) != before


def test_gpus_that_nobody_has_are_named(project) -> None:
    write_nerve(project, PARAMETERS | {"resources": {"num_cpus": 1, "num_gpus": 1}})
    with pytest.raises(SystemExit, match="no node has a core and 1 GPUs"):
        run_trainings("none", "cross_validation", [training(project, "t", slow_training, project / "marker")])


def test_a_cluster_that_does_not_answer_is_named(project, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(SystemExit, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        run_trainings("none", "cross_validation", [training(project, "t", slow_training, project / "marker")])
