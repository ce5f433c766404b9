"""The service starts as many workers as the machine can use."""

import pytest

from service.resources import worker_count as module
from service.resources.worker_count import decoder_count, worker_count

GIB = 2**30


@pytest.mark.parametrize(
    ("gpu", "cores", "gib", "workers", "decoders"),
    [(False, 16, 128, 2, 16), (True, 16, 128, 6, 6), (True, 4, 8, 2, 4), (True, 16, 12, 4, 8), (True, 2, 4, 2, 2)],
)
def test_a_gpu_gets_more_workers_if_there_are_cores_and_memory(monkeypatch, gpu, cores, gib, workers, decoders) -> None:
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(module, "cpu_cores", lambda: cores)
    monkeypatch.setattr(module, "memory_bytes", lambda: gib * GIB)
    assert worker_count() == workers
    assert decoder_count(cores, workers) == decoders


def test_the_number_of_workers_can_be_chosen(monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.setenv("NERVEMASK_WORKERS", "0")
    with pytest.raises(SystemExit, match="NERVEMASK_WORKERS is '0': set it to a number from 1 to 64"):
        worker_count()
