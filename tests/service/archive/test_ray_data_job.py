"""The plan of a job: tasks, actors, and why it stopped. Nothing here starts Ray."""

import os
from pathlib import Path

import pytest

from service.archive import ray_data_job
from service.archive.ray_data_job import Actors, JobError, explain, files_per_task, list_tasks, plan_actors
from service.archive.result_store import OutputError, ResultStore
from service.archive.segmentation_actor import ArchiveJob


def make_job(out: Path, files: int) -> ArchiveJob:
    return ArchiveJob(None, out, "mask", False, "", 1, files, {})


def test_there_is_an_actor_for_each_gpu_or_else_for_each_core() -> None:
    cpus = [{"CPU": 4.0}, {"CPU": 8.0}, {"memory": 1.0}]
    assert plan_actors(cpus, uses_gpu=False) == Actors(12, 1, 0)
    mixed = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 12.0, "GPU": 1.0}]
    assert plan_actors(mixed, uses_gpu=True) == Actors(3, 8, 1)
    assert plan_actors(mixed, uses_gpu=False) == Actors(92, 1, 0)  # GPUs that the network cannot use
    with pytest.raises(JobError, match="has no core"):
        plan_actors([{"memory": 1.0}], uses_gpu=False)


def test_tasks_grow_with_the_cluster_up_to_a_size() -> None:
    assert files_per_task(2) == ray_data_job.MIN_FILES_PER_TASK
    assert files_per_task(160) == 640
    assert files_per_task(10_000) == ray_data_job.MAX_FILES_PER_TASK


def test_a_task_has_a_number_of_files_or_of_bytes(tmp_path, monkeypatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        (source / f"{number}.png").write_bytes(bytes(1000))
    tasks = list(list_tasks({"source": str(source)}, make_job(tmp_path / "out", 2)))
    assert [len(task["locations"]) for task in tasks] == [2, 2, 1]
    assert os.fsdecode(tasks[0]["locations"][0]) == str(source / "0.png")
    monkeypatch.setattr(ray_data_job, "BYTES_PER_FILE", 300)  # of ten files: three of the thousand bytes
    tasks = list(list_tasks({"source": str(source)}, make_job(tmp_path / "out", 10)))
    assert [len(task["locations"]) for task in tasks] == [3, 2]


def test_the_reason_is_found_in_rays_text() -> None:
    text = "ray::x() failed\nTraceback\n  service.archive.result_store.OutputError: /out cannot be written (full)\nlast"
    assert explain(RuntimeError(text)) == "/out cannot be written (full)"
    assert explain(RuntimeError("first\nlast")) == "Ray stopped the job (last)"
    assert explain(RuntimeError("")) == "Ray stopped the job (RuntimeError)"
    assert explain(JobError("the reason")) == "the reason"


def test_an_output_folder_that_is_not_shared_stops_the_job(tmp_path) -> None:
    store, elsewhere = (ResultStore(tmp_path / name, "1-a", "mask") for name in ("here", "elsewhere"))
    mark = store.mark()
    store.check_mark(mark)
    with pytest.raises(OutputError, match="is not shared"):
        elsewhere.check_mark(mark)
    store.remove_mark(mark)
    assert not list((tmp_path / "here").iterdir())
