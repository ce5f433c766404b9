"""The segmentation of a cine: a finished frame does not wait for the next, and a cine can be abandoned."""

import threading
from itertools import chain

import numpy as np

from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.resources.worker_memory import UNLIMITED_MEMORY, FrameMemory, RequestMemory

MAX_WAIT_SECONDS = 120  # only a deadlock needs more
FRAME_BYTES = 1000


def keep(result: FrameResult) -> FrameResult:
    return result


class WaitingCine:
    """A cine of three black frames; the last is decoded only after `gate` is set."""

    frame_count = 3

    def __init__(self) -> None:
        self.gate, self.last_started = threading.Event(), threading.Event()

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return FRAME_BYTES

    def read_encoded(self, index: int) -> bytes:
        return b""

    def decode(self, encoded: bytes, index: int) -> Frame:
        if index == 2:
            self.last_started.set()
            assert self.gate.wait(MAX_WAIT_SECONDS)
        return Frame(np.zeros((32, 32), np.uint8), index=index)


def test_a_finished_frame_does_not_wait_for_the_next(segmenter) -> None:
    cine = WaitingCine()
    results = chain.from_iterable(segmenter.segment_cine(cine, UNLIMITED_MEMORY, keep))
    assert [next(results).frame.index, next(results).frame.index] == [0, 1]
    cine.gate.set()
    assert next(results).frame.index == 2


def test_a_cine_can_be_abandoned_in_a_thread_that_segments_it(segmenter) -> None:
    """The garbage collector may close the generator in any thread; a pool that waits for its own thread would hang."""
    closed = threading.Event()

    class SelfClosingCine(WaitingCine):
        def decode(self, encoded: bytes, index: int) -> Frame:
            frame = super().decode(encoded, index)
            if index == 2:
                batches.close()
                closed.set()
            return frame

    cine = SelfClosingCine()
    batches = segmenter.segment_cine(cine, UNLIMITED_MEMORY, keep)
    assert [len(next(batches)), len(next(batches))] == [1, 1]
    cine.gate.set()
    assert closed.wait(MAX_WAIT_SECONDS)


def test_a_cine_is_segmented_frame_by_frame_where_the_memory_holds_one_frame(segmenter) -> None:
    frames = FrameMemory(FRAME_BYTES * 8 // 7 + 1)
    assert frames.limit.largest == FRAME_BYTES
    cine = WaitingCine()
    cine.gate.set()
    batches = segmenter.segment_cine(cine, RequestMemory("alice", frames), keep)
    sizes = []
    for outcomes in batches:
        assert frames.limit.held == {"alice": FRAME_BYTES}  # until the response is rendered
        sizes.append(len(outcomes))
    assert sizes == [1, 1, 1]
    assert frames.limit.held == {}


def test_an_abandoned_cine_gives_its_memory_back_when_its_threads_have_ended(segmenter) -> None:
    frames, cine = FrameMemory(100 * FRAME_BYTES), WaitingCine()
    batches = segmenter.segment_cine(cine, RequestMemory("alice", frames), keep)
    assert [len(next(batches)), len(next(batches))] == [1, 1]
    assert cine.last_started.wait(MAX_WAIT_SECONDS)
    batches.close()
    assert frames.limit.held == {"alice": FRAME_BYTES}  # the last frame is still being decoded
    cine.gate.set()
    frames.reserve("bob", 87 * FRAME_BYTES)  # waits for the last bytes of alice's frame
    assert frames.limit.held == {"bob": 87 * FRAME_BYTES}


def test_a_frame_that_needs_too_much_memory_fails_alone(segmenter) -> None:
    """Fuzzing found a TIFF with a page that declares millions of pixels: the response ended without the other pages."""

    class HugeFrameCine(WaitingCine):
        def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
            return 10**15 if index == 1 else FRAME_BYTES

    frames, cine = FrameMemory(100 * FRAME_BYTES), HugeFrameCine()
    cine.gate.set()
    outcomes = list(chain.from_iterable(segmenter.segment_cine(cine, RequestMemory("alice", frames), keep)))
    assert [isinstance(outcome, FrameFailure) for outcome in outcomes] == [
        index == 1 for index in range(cine.frame_count)
    ]
    assert outcomes[1].error.status == 413
    assert not frames.limit.held


def test_a_frame_that_cannot_be_read_gives_its_memory_back(segmenter) -> None:
    class UnreadableCine(WaitingCine):
        def read_encoded(self, index: int) -> bytes:
            raise FrameError(ErrorCode.MALFORMED, "The frame is cut.")

    frames = FrameMemory(100 * FRAME_BYTES)
    outcomes = list(chain.from_iterable(segmenter.segment_cine(UnreadableCine(), RequestMemory("alice", frames), keep)))
    assert {outcome.error.code for outcome in outcomes} == {ErrorCode.MALFORMED}
    assert not frames.limit.held
