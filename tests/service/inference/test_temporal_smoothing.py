"""Temporal smoothing follows the tissue, starts again at a cut, and keeps the order of the frames."""

import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import cv2
import numpy as np
import pytest

from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.inference.segmenter import Segmenter
from service.inference.temporal_smoothing import (
    NEW_FRAME_WEIGHT,
    NetworkOutput,
    SmoothedFrame,
    TemporalSmoother,
    flow_picture,
    smooth,
)
from service.resources.worker_memory import UNLIMITED_MEMORY
from tests.frames import moving_tissue, speckle
from tests.service.continuous_client import wait_until

SHAPE = (160, 224)
BLACK = np.full(SHAPE, -2, np.float32)
SHIFT = 5  # columns by which the tissue moves from one frame to the next


def smoothed_frame(
    network_input: np.ndarray, probability: np.ndarray, presence: float = 1.0, shape: tuple[int, int] = SHAPE
) -> SmoothedFrame:
    picture = flow_picture(network_input[..., np.newaxis])
    return SmoothedFrame(shape, picture, NetworkOutput(probability.astype(np.float32), presence))


def tissue(seed: int, shift: int = 0) -> np.ndarray:
    """Tissue that has moved to the right by `shift` columns: float32 SHAPE, normalised."""
    wide = speckle(seed, SHAPE[0], SHAPE[1] + 40).astype(np.float32)
    cut = wide[:, 20 - shift : 20 - shift + SHAPE[1]]
    return (cut - cut.mean()) / cut.std()


def nerve(column: int) -> np.ndarray:
    probability = np.zeros(SHAPE)
    probability[60:100, column : column + 50] = 1
    return probability


def test_the_average_follows_the_tissue() -> None:
    """The nerve is found in the first frame only: in the second its rest is where the tissue has moved."""
    first = smoothed_frame(tissue(1), nerve(80))
    second = smooth(smoothed_frame(tissue(1, SHIFT), np.zeros(SHAPE), 0.5), first).output
    rest = second.probability > second.probability.max() / 2
    followed, not_followed = (np.count_nonzero(rest ^ (nerve(column) > 0)) for column in (80 + SHIFT, 80))
    assert followed < 0.3 * not_followed
    assert second.probability.dtype == np.float32


def test_the_average_is_one_of_log_odds() -> None:
    before, after = smoothed_frame(tissue(1), nerve(80), 0.9), smoothed_frame(tissue(1), nerve(80), 0.5)
    output = smooth(after, before).output
    assert np.log(output.presence / (1 - output.presence)) == pytest.approx((1 - NEW_FRAME_WEIGHT) * np.log(9), 1e-3)
    assert np.allclose(output.probability, nerve(80), atol=1e-3)


def sector(seed: int) -> np.ndarray:
    """Tissue in a sector between black corners, below a banner: the layout of a console."""
    inside = cv2.fillPoly(np.zeros(SHAPE, np.uint8), [np.array([[80, 20], [144, 20], [200, 159], [24, 159]])], 1)
    picture = np.where(inside, tissue(seed), -2).astype(np.float32)
    banner = cv2.putText(np.zeros(SHAPE, np.uint8), "CONSOLE 7.5 MHz", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 3)
    return np.maximum(picture, banner.astype(np.float32) - 2)


@pytest.mark.parametrize(
    ("before", "after", "after_shape"),
    [
        (tissue(1), tissue(2), SHAPE),
        (sector(1), sector(2), SHAPE),
        (tissue(1), tissue(1), (300, 400)),
        (tissue(1), BLACK, SHAPE),
        (BLACK, BLACK, SHAPE),
    ],
    ids=["other tissue", "other tissue in the same layout", "another size", "black", "black twice"],
)
def test_the_average_starts_again_at_a_cut(before, after, after_shape) -> None:
    frame = smoothed_frame(after, np.zeros(SHAPE), shape=after_shape)
    assert smooth(frame, smoothed_frame(before, nerve(80))) is frame


def test_the_frames_of_a_sector_are_averaged() -> None:
    frame = smoothed_frame(sector(1), nerve(80))
    assert smooth(frame, smoothed_frame(sector(1), nerve(80))) is not frame


Results = list[FrameResult | FrameFailure]


class MovingCine:
    """A cine of tissue that moves; the frame `damaged` cannot be decoded."""

    frame_count = 12

    def __init__(self, damaged: int | None = None, first: int = 0):
        self.damaged, self.first = damaged, first

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return 1

    def read_encoded(self, index: int) -> bytes:
        return b""

    def decode(self, encoded: bytes, index: int) -> Frame:
        if index == self.damaged:
            raise FrameError(ErrorCode.MALFORMED, "The frame is damaged.")
        return Frame(moving_tissue(self.first + index), index=index)


def keep(result: FrameResult) -> FrameResult:
    return result


def segment(segmenter: Segmenter, cine: MovingCine, smoother: TemporalSmoother | None) -> Results:
    return list(chain.from_iterable(segmenter.segment_cine(cine, UNLIMITED_MEMORY, keep, smoother)))


def presences(results: Results) -> list[float]:
    return [result.segmentation.presence for result in results if isinstance(result, FrameResult)]


def test_a_cine_gives_the_same_masks_in_one_piece_and_frame_by_frame(segmenter) -> None:
    """As a stream sends it. So the order of the threads does not matter."""

    class OneFrame(MovingCine):
        frame_count = 1

    together = segment(segmenter, MovingCine(), TemporalSmoother())
    smoother = TemporalSmoother()
    alone = list(chain.from_iterable(segment(segmenter, OneFrame(first=number), smoother) for number in range(12)))
    assert presences(together) == presences(alone)
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.segmentation.mask, other.segmentation.mask)
    assert presences(together)[1:] != presences(segment(segmenter, MovingCine(), None))[1:]
    assert presences(together)[0] == presences(segment(segmenter, MovingCine(), None))[0]


def test_after_a_damaged_frame_the_average_starts_again(segmenter) -> None:
    results = segment(segmenter, MovingCine(damaged=4), TemporalSmoother())
    assert [isinstance(result, FrameFailure) for result in results] == [index == 4 for index in range(12)]
    alone = segment(segmenter, MovingCine(), None)
    assert results[5].segmentation.presence == alone[5].segmentation.presence


def test_a_stream_goes_on_after_an_abandoned_cine(segmenter) -> None:
    """Its queued frames never run. Neither the frames behind them nor the next cine wait for them."""
    smoother, before = TemporalSmoother(), threading.active_count()
    for _ in range(5):
        batches = segmenter.segment_cine(MovingCine(), UNLIMITED_MEMORY, keep, smoother)
        next(batches)
        next(batches)  # now most of the other frames are queued
        batches.close()
    assert len(segment(segmenter, MovingCine(), smoother)) == 12
    wait_until(lambda: threading.active_count() <= before)


def test_a_cancelled_frame_lets_the_next_one_go_on(segmenter) -> None:
    smoother, future = TemporalSmoother(), Future()
    future.add_done_callback(smoother.next_frame(segmenter).end)
    future.cancel()
    following = smoother.next_frame(segmenter)
    output = NetworkOutput(nerve(80).astype(np.float32), 1.0)
    assert following.smooth(SHAPE, np.zeros((*SHAPE, 1), np.float32), output) is output


def test_a_stream_goes_on_after_a_frame_that_no_thread_could_take(segmenter, monkeypatch) -> None:
    def submit(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    smoother = TemporalSmoother()
    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", submit)
        with pytest.raises(RuntimeError):
            segment(segmenter, MovingCine(), smoother)
    assert len(segment(segmenter, MovingCine(), smoother)) == 12


@pytest.mark.parametrize("shape", [(16, 16), (16, 128), (64, 600)])
def test_an_input_without_a_flow_is_not_smoothed(shape) -> None:
    picture = flow_picture(np.zeros((*shape, 1), np.float32))
    frame = SmoothedFrame(shape, picture, NetworkOutput(np.zeros(shape, np.float32), 0.5))
    assert smooth(frame, frame) is frame


def test_tissue_that_enters_the_frame_has_its_own_output_only() -> None:
    """Not that of the edge, which earlier frames have shown."""
    first = smoothed_frame(tissue(1), nerve(0))
    moved = smoothed_frame(tissue(1, 2 * SHIFT), np.full(SHAPE, 0.5))
    entering = smooth(moved, first).output.probability[70:90, :4]
    assert np.allclose(entering, 0.5)


def test_another_model_starts_again(segmenter, model_folder) -> None:
    smoother = TemporalSmoother()
    segment(segmenter, MovingCine(), smoother)
    other, further = Segmenter(model_folder), MovingCine(first=12)
    assert presences(segment(other, further, smoother))[0] == presences(segment(other, further, None))[0]


def test_a_stream_keeps_no_old_model_in_memory(model_folder) -> None:
    model, smoother = Segmenter(model_folder), TemporalSmoother()
    smoother.next_frame(model)
    alive = weakref.ref(model)
    del model
    assert alive() is None
