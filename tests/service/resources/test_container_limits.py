"""The service keeps to the CPU cores and memory of its container."""

from pathlib import Path

import pytest

from service.api.upload import MAX_UPLOAD_BYTES
from service.resources import container_limits
from service.resources.container_limits import cpu_cores, memory_bytes
from service.resources.worker_memory import FILE_MEMORY

GIB = 2**30


@pytest.mark.parametrize("limit_file", ["memory.max", "memory/memory.limit_in_bytes"], ids=["cgroup 2", "cgroup 1"])
def test_memory_is_the_limit_of_the_container(tmp_path: Path, limit_file: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit_file).write_text("1073741824\n")
    assert memory_bytes(tmp_path) == GIB


@pytest.mark.parametrize(
    ("own", "limit_file"),
    [
        ("0::/system.slice/nervemask.service", "system.slice/nervemask.service/memory.max"),
        ("0::/system.slice/nervemask.service", "system.slice/memory.max"),
        ("7:cpu:/a\n4:hugetlb,memory:/a/b", "memory/a/b/memory.limit_in_bytes"),
    ],
    ids=["cgroup 2", "its parent", "cgroup 1"],
)
def test_memory_is_the_limit_of_the_control_group_of_this_process(tmp_path: Path, own: str, limit_file: str) -> None:
    (tmp_path / "own").write_text(f"{own}\n")
    (tmp_path / limit_file).parent.mkdir(parents=True)
    (tmp_path / limit_file).write_text("1073741824\n")
    assert memory_bytes(tmp_path, tmp_path / "own") == GIB


@pytest.mark.parametrize("text", ["max\n", str(2**62)])
def test_without_a_lower_limit_memory_is_that_of_the_machine(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert memory_bytes(tmp_path) == memory_bytes(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 2), ("20000 100000", 1), ("6400000 100000", 4), ("max 100000", 4)]
)
def test_cores_are_limited_by_the_quota_of_the_container(monkeypatch, tmp_path: Path, text: str, cores: int) -> None:
    monkeypatch.setattr(container_limits.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(container_limits, "CGROUP", tmp_path)
    assert cpu_cores() == 4
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_cores() == cores


def test_one_client_may_send_the_largest_upload() -> None:
    assert FILE_MEMORY.largest >= MAX_UPLOAD_BYTES
