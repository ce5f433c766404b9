"""The service keeps to the CPU cores and memory of its container."""

from pathlib import Path

import pytest

from service import machine_resources
from service.api.byte_budget import worker_budget_bytes
from service.api.upload import MAX_UPLOAD_BYTES, UPLOAD_BUDGET_BYTES
from service.decoding.decoder_process import LIBRARIES_BYTES, decoder_memory_limit
from service.machine_resources import CPU_WORKERS, cpu_cores, memory_bytes

GIB = 2**30


@pytest.mark.parametrize("limit_file", ["memory.max", "memory/memory.limit_in_bytes"], ids=["cgroup 2", "cgroup 1"])
def test_memory_is_the_limit_of_the_container(tmp_path: Path, limit_file: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit_file).write_text("1073741824\n")
    assert memory_bytes(tmp_path) == GIB


@pytest.mark.parametrize("text", ["max\n", str(2**62)])
def test_without_a_lower_limit_memory_is_that_of_the_machine(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert memory_bytes(tmp_path) == memory_bytes(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 2), ("20000 100000", 1), ("6400000 100000", 4), ("max 100000", 4)]
)
def test_cores_are_limited_by_the_quota_of_the_container(monkeypatch, tmp_path: Path, text: str, cores: int) -> None:
    monkeypatch.setattr(machine_resources.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine_resources, "CGROUP", tmp_path)
    assert cpu_cores() == 4
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_cores() == cores


@pytest.mark.parametrize("gib", [2, 4, 8, 64])
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_uploads_and_decoders_use_at_most_three_quarters_of_the_memory(gib: int, cores: int) -> None:
    uploads = CPU_WORKERS * worker_budget_bytes(gib * GIB)
    decoders = CPU_WORKERS * cores * (decoder_memory_limit(gib * GIB, cores) - LIBRARIES_BYTES)
    assert uploads + decoders <= 0.75 * gib * GIB


def test_the_upload_budget_holds_the_largest_upload() -> None:
    assert MAX_UPLOAD_BYTES <= UPLOAD_BUDGET_BYTES
