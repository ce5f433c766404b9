"""Dynamic batching: run the frames of concurrent calls as one batch. A GPU needs hardly longer for it than for one."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.inference.runtime_interface import Runtime

BATCH_SIZES = (1, 2, 8, 16)  # a batch is padded to one of them
MAX_DIFFERENCE = 0.02  # of a probability between batch sizes; in float16 the order of sums matters


@dataclass(eq=False)
class _Call:
    """Frames of one caller, and what became of them. Both None: they wait or run."""

    frames: np.ndarray
    outputs: tuple[np.ndarray, np.ndarray] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.outputs is not None or self.error is not None


class ShapedRuntime(Runtime, Protocol):
    """A runtime that knows its input. frame_shape: for one frame, (height, width, 1)."""

    frame_shape: tuple[int, ...]


class DynamicBatchingRuntime:
    """A runtime that joins concurrent calls. Thread-safe.

    One batch runs at a time, in the thread of a waiting call. Calls that arrive meanwhile wait. The next batch takes
    the oldest of them. So a call never waits for others to arrive, and batches grow with the load.

    A batch that fails is run again call by call: only the calls that fail alone get an error.

    runtimes: of a GPU, one for each of BATCH_SIZES. ONNX Runtime plans the convolutions again when a batch has another
        size than the last one, which takes longer than the batch.

    Raises ArithmeticError if a frame gets other probabilities in a batch than alone, and any exception of the runtimes.
    """

    def __init__(self, runtimes: Mapping[int, ShapedRuntime]):
        self.runtimes = runtimes
        first = runtimes[BATCH_SIZES[0]]
        self.device = first.device
        self.precision = first.precision
        self.waiting: deque[_Call] = deque()
        self.is_running = False
        self.changed = threading.Condition()
        frame = np.random.default_rng(0).normal(size=(1, *first.frame_shape)).astype(np.float32)
        expected = first(frame)
        for size, runtime in runtimes.items():
            for outputs, alone in zip(runtime(np.repeat(frame, size, axis=0)), expected, strict=True):
                if not np.abs(outputs - alone).max() <= MAX_DIFFERENCE:  # also not for NaN
                    raise ArithmeticError(f"a frame gets other probabilities in a batch of {size} than alone")

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        call = _Call(batch)
        with self.changed:
            self.waiting.append(call)
        while not call.is_done:
            calls = self._wait_for_turn(call)
            if calls:
                self._run(calls)
        if call.error:
            raise call.error
        assert call.outputs is not None
        return call.outputs

    def _wait_for_turn(self, call: _Call) -> list[_Call]:
        """Wait until no batch runs or `call` is done; return the calls of the next batch, or nothing if it is done."""
        with self.changed:
            self.changed.wait_for(lambda: call.is_done or not self.is_running)
            if call.is_done:
                return []
            self.is_running = True
            calls = [self.waiting.popleft()]
            frames = len(calls[0].frames)
            while self.waiting and (frames := frames + len(self.waiting[0].frames)) <= BATCH_SIZES[-1]:
                calls.append(self.waiting.popleft())
            return calls

    def _run(self, calls: list[_Call]) -> None:
        try:
            self._run_together(calls)
        except Exception as error:
            for call in calls:
                self._run_alone(call, error if len(calls) == 1 else None)
        finally:
            for call in calls:
                if not call.is_done:  # the thread is being ended
                    call.error = RuntimeError("the batch was interrupted")
            with self.changed:
                self.is_running = False
                self.changed.notify_all()

    def _run_together(self, calls: list[_Call]) -> None:
        frames = np.concatenate([call.frames for call in calls]) if len(calls) > 1 else calls[0].frames
        size = next((size for size in BATCH_SIZES if size >= len(frames)), BATCH_SIZES[-1])
        padding = [(0, max(0, size - len(frames)))] + [(0, 0)] * (frames.ndim - 1)
        mask, presence = self.runtimes[size](np.pad(frames, padding))
        start = 0
        for call in calls:
            end = start + len(call.frames)
            call.outputs = mask[start:end], presence[start:end]
            start = end

    def _run_alone(self, call: _Call, error: Exception | None) -> None:
        """Run one call of a batch that failed. error: its own, if it was alone."""
        call.error = error
        if error is None:
            try:
                self._run_together([call])
            except Exception as own_error:
                call.error = own_error
