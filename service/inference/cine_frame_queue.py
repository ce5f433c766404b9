"""The frames of a cine that are being segmented, in order, with the memory that they hold."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from service.errors import FrameError
from service.inference.segmentation_result import FrameFailure
from service.resources.worker_memory import RequestMemory

T = TypeVar("T")


class QueuedFrame(NamedTuple, Generic[T]):
    """A frame that is being segmented, its position in the cine, and the bytes that are reserved for it."""

    number: int
    byte_count: int
    future: Future[T]

    def outcome(self) -> T | FrameFailure:
        """Wait for the frame; return its result, or its error."""
        try:
            return self.future.result()
        except FrameError as error:
            return FrameFailure(self.number, error)


class CineFrameQueue(Generic[T]):
    """Frames in the order of the cine. memory: where their bytes are reserved."""

    def __init__(self, memory: RequestMemory):
        self.memory = memory
        self.frames: deque[QueuedFrame[T]] = deque()

    def reserve(self, byte_count: int) -> bool:
        """Reserve the bytes of the next frame; return False if earlier frames have to finish before.

        Without earlier frames it waits for the bytes. Raises FrameError (413, 503).
        """
        if not self.frames:
            self.memory.frames.reserve(self.memory.client, byte_count)
            return True
        return self.memory.frames.try_reserve(self.memory.client, byte_count)

    def append(self, number: int, byte_count: int, future: Future[T]) -> None:
        """Add a frame whose bytes are reserved. number: its position in the cine."""
        self.frames.append(QueuedFrame(number, byte_count, future))

    def append_failure(self, number: int, byte_count: int, error: FrameError) -> None:
        """Add a frame that cannot be read, and the bytes that are reserved for it."""
        future: Future[T] = Future()
        future.set_exception(error)
        self.append(number, byte_count, future)

    def pop_finished(self, count: int = 1) -> Iterator[list[T | FrameFailure]]:
        """Wait for the first frames; yield their outcomes, with those of the finished frames that directly follow.

        Their bytes are released when the iterator goes on: the responses are rendered then.

        count: of frames to wait for, at most as many as there are.
        """
        finished: list[QueuedFrame[T]] = []
        outcomes: list[T | FrameFailure] = []
        while self.frames and (len(finished) < count or self.frames[0].future.done()):
            finished.append(self.frames.popleft())
            outcomes.append(finished[-1].outcome())
        try:
            yield outcomes
        finally:
            self._release(sum(frame.byte_count for frame in finished))

    def abandon(self) -> None:
        """Release the bytes of each frame as soon as its thread has ended."""
        for frame in self.frames:
            frame.future.add_done_callback(partial(self._release_after, frame.byte_count))

    def _release_after(self, byte_count: int, _: Future[T]) -> None:
        self._release(byte_count)

    def _release(self, byte_count: int) -> None:
        self.memory.frames.release(self.memory.client, byte_count)
