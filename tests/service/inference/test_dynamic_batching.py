"""Dynamic batching with ONNX Runtime on the CPU in place of a GPU."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.inference.dynamic_batching import BATCH_SIZES, DynamicBatchingRuntime
from service.inference.onnx_runtime import CPU, OnnxRuntime

FRAME_SHAPE = (48, 64)  # of the tiny network's input


def frames(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *FRAME_SHAPE, 1)).astype(np.float32)


class RecordingRuntime:
    """Waits until `opened` is set, then runs the tiny network. It fails with NaN.

    batches: the sizes so far. counts: whether it waits and counts; not while DynamicBatchingRuntime is made.
    """

    def __init__(self, runtime: OnnxRuntime):
        self.runtime = runtime
        self.device, self.precision, self.frame_shape = runtime.device, runtime.precision, runtime.frame_shape
        self.started, self.opened = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.counts = False

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        if self.counts:
            self.started.set()
            assert self.opened.wait(60)
            self.batches.append(len(batch))
        if np.isnan(batch).any():
            raise ValueError("not a number")
        return self.runtime(batch)


@pytest.fixture
def onnx_runtime(model_folder) -> OnnxRuntime:
    return OnnxRuntime(model_folder / "unet.onnx", "float32", [CPU])


@pytest.fixture
def recording(onnx_runtime) -> RecordingRuntime:
    return RecordingRuntime(onnx_runtime)


def run_while_busy(recording: RecordingRuntime, batches: list[np.ndarray]) -> list:
    """Run `batches` in a thread each, all of them while one frame occupies the runtime; return their futures."""
    batching = DynamicBatchingRuntime(dict.fromkeys(BATCH_SIZES, recording))
    recording.counts = True
    with ThreadPoolExecutor(len(batches) + 1) as pool:
        first = pool.submit(batching, frames(0))
        recording.started.wait(60)
        futures = []
        for batch in batches:
            futures.append(pool.submit(batching, batch))
            while len(batching.waiting) < len(futures):
                pass
        recording.opened.set()
        first.result(60)
    return futures


def test_calls_that_wait_become_one_padded_batch_and_keep_their_outputs(recording, onnx_runtime) -> None:
    batches = [frames(seed, count) for seed, count in ((1, 1), (2, 2), (3, 3), (4, 1), (5, 2))]
    futures = run_while_busy(recording, batches)
    assert recording.batches == [1, 16]  # 9 frames
    for batch, future in zip(batches, futures, strict=True):
        (mask, presence), (expected_mask, expected_presence) = future.result(), onnx_runtime(batch)
        np.testing.assert_allclose(mask, expected_mask, atol=1e-6)
        np.testing.assert_allclose(presence, expected_presence, atol=1e-6)


def test_a_batch_has_at_most_the_largest_size(recording) -> None:
    futures = run_while_busy(recording, [frames(seed, 2) for seed in range(BATCH_SIZES[-1] // 2 + 3)])
    assert [future.result()[0].shape for future in futures] == [(2, *FRAME_SHAPE, 1)] * len(futures)
    assert recording.batches == [1, 16, 8]  # 6 frames in the last one


def test_a_failing_batch_fails_only_the_calls_that_fail_alone(recording, onnx_runtime) -> None:
    batches = [frames(1), np.full((1, *FRAME_SHAPE, 1), np.nan, np.float32), frames(2)]
    good, bad, other = run_while_busy(recording, batches)
    with pytest.raises(ValueError, match="not a number"):
        bad.result()
    for future, batch in ((good, batches[0]), (other, batches[2])):
        np.testing.assert_allclose(future.result()[0], onnx_runtime(batch)[0], atol=1e-6)
    assert recording.batches == [1, 8, 1, 1, 1]


def test_a_runtime_that_always_fails_answers_every_call(recording) -> None:
    batching = DynamicBatchingRuntime(dict.fromkeys(BATCH_SIZES, recording))
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(batching, np.full((1, *FRAME_SHAPE, 1), np.nan, np.float32)) for _ in range(40)]
        errors = [future.exception(60) for future in futures]
    assert [type(error) for error in errors] == [ValueError] * 40
    assert not batching.waiting and not batching.is_running


def test_many_threads_get_their_own_outputs(onnx_runtime) -> None:
    batching = DynamicBatchingRuntime(dict.fromkeys(BATCH_SIZES, onnx_runtime))
    batches = [frames(seed, 1 + seed % 3) for seed in range(200)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(batching, batches))
    for batch, (mask, _) in zip(batches, results, strict=True):
        np.testing.assert_allclose(mask, onnx_runtime(batch)[0], atol=1e-6)


def test_a_runtime_whose_batches_differ_from_single_frames_is_refused(onnx_runtime) -> None:
    class PaddingRuntime:
        """Mixes the frames of a batch."""

        device, precision, frame_shape = onnx_runtime.device, onnx_runtime.precision, onnx_runtime.frame_shape

        def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
            return onnx_runtime(batch / len(batch))

    with pytest.raises(ArithmeticError, match="in a batch of 2 than alone"):
        DynamicBatchingRuntime(dict.fromkeys(BATCH_SIZES, PaddingRuntime()))
