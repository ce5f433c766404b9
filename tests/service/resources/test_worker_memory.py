"""The memory of a worker is shared by its clients; a frame waits for its bytes, and no client takes all."""

import threading

import pytest

from service.errors import FrameError
from service.resources import worker_memory
from service.resources.worker_count import decoder_count
from service.resources.worker_memory import (
    DECODER_BYTES,
    GPU_LIBRARIES_BYTES,
    NETWORK_BYTES,
    SHARED_BYTES,
    FrameMemory,
    RequestMemory,
    SharedLimit,
    share_memory,
)

GIB = 2**30
MAX_WAIT_SECONDS = 120  # only a deadlock needs more


@pytest.mark.parametrize(
    ("gib", "cores", "workers", "gpu"),
    [(gib, cores, 2, False) for gib in (2, 4, 8, 64) for cores in (1, 2, 4)] + [(8, 4, 2, True), (64, 16, 6, True)],
)
def test_all_parts_together_fit_into_the_memory(gib: int, cores: int, workers: int, gpu: bool) -> None:
    parts = share_memory(gib * GIB, cores, workers, gpu)
    network = NETWORK_BYTES + gpu * GPU_LIBRARIES_BYTES
    worker_bytes = network + decoder_count(cores, workers) * DECODER_BYTES + sum(parts)
    assert SHARED_BYTES + workers * worker_bytes <= 0.95 * gib * GIB
    assert min(parts) > 16 * 2**20


def test_where_the_memory_holds_no_frame_nothing_is_promised() -> None:
    assert share_memory(GIB // 2, 4, 2) == (0, 0, 0)


def test_a_client_gets_at_most_its_limit_and_its_part_of_what_is_free() -> None:
    limit = SharedLimit(80, max_per_client=50, free_shares=7)
    assert (limit.largest, limit.room("alice")) == (50, 50)
    assert limit.reserve("alice", 50)
    assert not limit.reserve("alice")
    assert limit.room("bob") == 26  # seven eighths of 30
    assert limit.reserve("bob", 26)
    assert [limit.reserve(client) for client in ("carol", "dave", "erin", "frank")] == [True] * 4
    assert not limit.reserve("grace")  # nothing is free
    limit.release("alice", 50)
    assert limit.held == {"bob": 26, "carol": 1, "dave": 1, "erin": 1, "frank": 1}


class Waiting:
    """A thread that reserves the bytes of a frame. error: what it gets instead."""

    def __init__(self, memory: FrameMemory, client: str, byte_count: int):
        self.error: FrameError | None = None
        before = waiting_count(memory)
        self.thread = threading.Thread(target=self._reserve, args=(memory, client, byte_count))
        self.thread.start()
        while self.thread.is_alive() and waiting_count(memory) == before:
            pass

    def _reserve(self, memory: FrameMemory, client: str, byte_count: int) -> None:
        try:
            memory.reserve(client, byte_count)
        except FrameError as error:
            self.error = error

    def is_granted(self) -> bool:
        self.thread.join(0.05)
        return not self.thread.is_alive()

    def join(self) -> None:
        self.thread.join(MAX_WAIT_SECONDS)
        assert not self.thread.is_alive()


def waiting_count(memory: FrameMemory) -> int:
    with memory.limit.lock:
        return sum(map(len, memory.waiting.values()))


def test_frames_wait_and_their_clients_take_turns() -> None:
    memory = FrameMemory(800)
    memory.reserve("alice", 700)
    first, second = Waiting(memory, "alice", 700), Waiting(memory, "alice", 700)
    bob = Waiting(memory, "bob", 700)
    memory.release("alice", 700)
    first.join()
    memory.release("alice", 700)
    bob.join()
    assert not second.is_granted()
    memory.release("bob", 700)
    second.join()
    memory.release("alice", 700)
    assert memory.limit.held == {}


def test_a_small_frame_overtakes_a_large_one_only_if_its_client_holds_nothing() -> None:
    memory = FrameMemory(800)
    memory.reserve("alice", 300)
    bob = Waiting(memory, "bob", 600)
    assert not memory.try_reserve("alice", 10)  # else the large frame would wait for ever
    assert memory.try_reserve("carol", 10)
    memory.release("alice", 300)
    bob.join()
    assert memory.limit.held == {"bob": 600, "carol": 10}


def test_a_frame_that_never_fits_is_refused_at_once() -> None:
    with pytest.raises(FrameError, match="needs 2 MiB of memory, and the service has 0 MiB") as error:
        FrameMemory(2**20).reserve("alice", 2**20)
    assert (error.value.code, error.value.status) == ("too_many_pixels", 413)


def test_a_frame_that_waits_too_long_is_refused_and_leaves_the_queue(monkeypatch) -> None:
    monkeypatch.setattr(worker_memory, "MAX_WAIT_SECONDS", 0.01)
    memory = FrameMemory(800)
    memory.reserve("alice", 700)
    with pytest.raises(FrameError) as error:
        memory.reserve("bob", 600)
    assert (error.value.code, error.value.status) == ("no_memory", 503)
    assert memory.waiting == {}


def test_a_request_gives_back_what_it_holds() -> None:
    frames, files = FrameMemory(800), SharedLimit(800, free_shares=7)
    memory = RequestMemory("alice", frames, files)
    memory.reserve_only_frame(500)
    memory.shrink_only_frame(600)
    memory.shrink_only_frame(20)
    assert memory.reserve_file(100) == 100
    assert memory.reserve_file(100, wanted_bytes=200) == 200
    memory.release_file(50)
    assert (frames.limit.held, files.held) == ({"alice": 20}, {"alice": 250})
    memory.release()
    assert (frames.limit.held, files.held) == ({}, {})


def test_a_file_is_refused_with_413_if_it_never_fits_and_with_429_if_it_does_not_fit_now() -> None:
    files = SharedLimit(800, free_shares=7)
    files.reserve("alice", 600)
    statuses = []
    for byte_count in (701, 700):
        with pytest.raises(FrameError) as error:
            RequestMemory("bob", FrameMemory(1), files).reserve_file(byte_count)
        statuses.append(error.value.status)
    assert statuses == [413, 429]
