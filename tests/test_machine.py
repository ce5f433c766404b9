"""What a container is given, and what the service takes of it."""

from pathlib import Path

import pytest

from service.isolation import LIBRARIES_BYTES, most_memory
from service.machine import WORKERS, memory
from service.upload import BUDGET_BYTES, LIMIT_BYTES, budget

GIB = 2**30


@pytest.mark.parametrize(
    ("limit", "written"), [("memory.max", "1073741824\n"), ("memory/memory.limit_in_bytes", "1073741824\n")]
)
def test_a_containers_limit_is_its_memory(tmp_path: Path, limit: str, written: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text(written)
    assert memory(tmp_path) == GIB


@pytest.mark.parametrize("written", ["max\n", str(2**62)])
def test_without_a_limit_it_is_the_machines(tmp_path: Path, written: str) -> None:
    (tmp_path / "memory.max").write_text(written)
    assert memory(tmp_path) == memory(tmp_path / "none")


@pytest.mark.parametrize("gib", [2, 4, 8, 64])
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_uploads_and_decoders_leave_a_quarter_to_the_rest(gib: int, cores: int) -> None:
    uploads = WORKERS * budget(gib * GIB)
    decoders = WORKERS * cores * (most_memory(gib * GIB, cores) - LIBRARIES_BYTES)
    assert uploads + decoders <= 0.75 * gib * GIB


def test_one_upload_never_waits_for_a_budget_that_cannot_hold_it() -> None:
    assert LIMIT_BYTES <= BUDGET_BYTES
