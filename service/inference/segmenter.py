"""Segment frames and cines: decode, preprocess, run the network, postprocess."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.decoding.cine import Cine
from service.decoding.cropping import Box
from service.decoding.frame import Frame
from service.errors import FrameError, ModelFolderError
from service.inference.cine_frame_queue import CineFrameQueue
from service.inference.conformal_outlines import add_outlines
from service.inference.frames_in_flight import FramesInFlight
from service.inference.mask_confidence import mask_confidence
from service.inference.out_of_distribution import mahalanobis_distance, out_of_distribution_notes
from service.inference.postprocessing import postprocess
from service.inference.preprocessing import preprocess, resample_to_frame
from service.inference.runtime_interface import Runtime
from service.inference.runtime_selection import open_cpu_runtime, open_runtime
from service.inference.segmentation_result import FrameFailure, FrameResult, FrameSegmentation
from service.inference.temporal_smoothing import NetworkOutput, SmoothingTurn, TemporalSmoother
from service.inference.tta import with_tta
from service.model.card import NETWORK_FILES, REMEDY, Card, NetworkInput, Precision
from service.model.postprocessing_config import PostprocessingConfig
from service.resources.container_limits import cpu_cores
from service.resources.worker_memory import UNLIMITED_MEMORY, RequestMemory

T = TypeVar("T")
QUEUED_FRAMES_PER_CORE = 4  # frames of a cine that are submitted ahead of the result that is waited for


class Segmenter:
    """An open model folder. Thread-safe.

    folder: the model folder.
    precision: number format of the network on the CPU. None: as served, on the GPU in `gpu_precision`, or else on the
        CPU in `precision`.

    Raises ModelFolderError if the folder must not be served.
    """

    def __init__(self, folder: Path, precision: Precision | None = None):
        self.folder = folder.resolve()  # a symbolic link may change later
        self.card = Card.read(folder)
        self.can_exclude_nerve = can_exclude_nerve(self.card)
        self.in_flight = FramesInFlight()
        try:
            if precision is None:
                card = self.card
                self.runtime = open_runtime(folder, card.precision, card.gpu_precision, card.tta)
            else:
                self.runtime = with_tta(open_cpu_runtime(folder, precision), self.card.tta)
            self._warm_up()
        except Exception as error:  # each runtime raises its own exceptions
            network = folder / NETWORK_FILES[precision or self.card.precision]
            reason = str(error).splitlines()[-1]
            raise ModelFolderError(f"{network} is not a network that fits its card ({reason}): {REMEDY}.") from error

    def _warm_up(self) -> None:
        """Run the network once: the first inference is slow, and shows whether the network fits its card."""
        batch = np.zeros((1, self.card.input.height, self.card.input.width, 1), np.float32)
        mask, presence = self.runtime(batch)
        if mask.shape != batch.shape or presence.shape != (1,):
            raise ValueError(f"its outputs have the shapes {mask.shape} and {presence.shape}")

    def segment(self, frame: Frame, outlines: bool = False) -> FrameSegmentation:
        """Segment a frame with the card's postprocessing. The mask is empty outside the frame's scan area.

        outlines: find the outlines of the mask, too.
        """
        with self.in_flight:
            return self._segment_in_flight(frame, outlines)

    def segment_cine_frame(
        self, cine: Cine, index: int, memory: RequestMemory = UNLIMITED_MEMORY, outlines: bool = False
    ) -> FrameResult:
        """Decode and segment one frame of a cine.

        index: position in the cine, from 0. memory: where the bytes of the frame are reserved; they stay reserved.
        outlines: find the outlines of the mask, too.

        Raises FrameError.
        """
        memory.reserve_only_frame(cine.frame_bytes(index, memory.rendered_bytes_per_pixel))
        return self._decode_and_segment(cine, cine.read_encoded(index), index, outlines)

    def segment_cine(
        self,
        cine: Cine,
        memory: RequestMemory,
        finish: Callable[[FrameResult], T],
        smoother: TemporalSmoother | None = None,
        outlines: bool = False,
    ) -> Iterator[list[T | FrameFailure]]:
        """Yield `finish` of the results of all frames, in order, in lists of at least one, as soon as they are ready.

        A damaged frame gives a FrameFailure; the other frames are still segmented.

        memory: where the bytes of a frame are reserved, until the list after its own is asked for.
        finish: called in the thread that segmented the frame, so all cores share this work too.
        smoother: smooths the masks over time; it knows the frames before this cine. None: no smoothing.
        outlines: find the outlines of the masks, too.
        """

        def process(encoded: bytes, index: int, turn: SmoothingTurn | None) -> T:
            return finish(self._decode_and_segment(cine, encoded, index, outlines, turn))

        pending: CineFrameQueue[T] = CineFrameQueue(memory)
        pool = ThreadPoolExecutor(cpu_cores(), "cine")
        try:
            for index in range(cine.frame_count):
                reserved = 0
                try:
                    byte_count = cine.frame_bytes(index, memory.rendered_bytes_per_pixel)
                    while not pending.reserve(byte_count):
                        yield from pending.pop_finished()
                    reserved = byte_count
                    encoded = cine.read_encoded(index)
                except FrameError as error:
                    pending.append_failure(index, reserved, error)
                    if smoother:
                        smoother.next_frame(self).end()
                else:
                    turn = smoother.next_frame(self) if smoother else None
                    pending.append(index, byte_count, _submit(pool, turn, process, encoded, index, turn))
                # Wait for the first frame alone: the client waits for it, and so it gets all cores.
                most = QUEUED_FRAMES_PER_CORE * cpu_cores() if index else 0
                if len(pending.frames) > most:  # to send frames one by one would take longer than to segment them
                    yield from pending.pop_finished(max(1, most // 2))
            while pending.frames:
                yield from pending.pop_finished()
        finally:  # do not wait: an abandoned generator may be closed in a thread of this pool
            pool.shutdown(wait=False, cancel_futures=True)
            pending.abandon()

    def _decode_and_segment(
        self, cine: Cine, encoded: bytes, index: int, outlines: bool, turn: SmoothingTurn | None = None
    ) -> FrameResult:
        with self.in_flight:
            start = time.perf_counter()
            frame = cine.decode(encoded, index)
            decode_milliseconds = (time.perf_counter() - start) * 1000
            return FrameResult(frame, self._segment_in_flight(frame, outlines, turn), decode_milliseconds)

    def _segment_in_flight(
        self, frame: Frame, outlines: bool = False, turn: SmoothingTurn | None = None
    ) -> FrameSegmentation:
        start = time.perf_counter()
        scan, config = Frame(frame.scan_pixels), self.card.postprocessing
        network_input = preprocess(scan, self.card.input)
        output = run_network(self.runtime, network_input, self.in_flight.may_use_all_cores)
        if turn:
            output = turn.smooth(frame.pixels.shape, network_input, output)
        probability = resample_to_frame(output.probability, scan)
        segmentation = build_segmentation(probability, output.presence, config, self.can_exclude_nerve)
        stats = self.card.out_of_distribution
        distance = mahalanobis_distance(scan.content_box.crop(scan.pixels), stats) if stats else None
        notes = out_of_distribution_notes(distance, stats)
        segmentation = replace(segmentation, notes=notes, out_of_distribution_distance=distance)
        if outlines:
            reason = self._missing_guarantee(is_smoothed=turn is not None, is_out_of_distribution=bool(notes))
            segmentation = add_outlines(segmentation, probability, config, reason)
        if frame.scan_area is not None:
            segmentation = _place_in_frame(segmentation, frame, frame.scan_area)
        milliseconds = (time.perf_counter() - start - (turn.waited_seconds if turn else 0.0)) * 1000
        return replace(segmentation, milliseconds=milliseconds)

    def _missing_guarantee(self, is_smoothed: bool, is_out_of_distribution: bool) -> str | None:
        """Return why the guarantee of the outlines does not hold, whatever the confidence; None if it may hold.

        It is for the network and the frames that the margins were fitted to.
        """
        if self.card.refit:
            return "the model is a refit"
        if is_smoothed:
            return "the masks are smoothed"
        return "the frame is out of distribution" if is_out_of_distribution else None


def _submit(
    pool: ThreadPoolExecutor, turn: SmoothingTurn | None, work: Callable[..., T], *arguments: object
) -> Future[T]:
    """Let a thread of the pool work. The turn ends with the work, also if it fails, is cancelled, or cannot start."""
    if turn is None:
        return pool.submit(work, *arguments)
    try:
        future = pool.submit(work, *arguments)
    except BaseException:  # no thread can be started, for example
        turn.end()
        raise
    future.add_done_callback(turn.end)
    return future


def _place_in_frame(segmentation: FrameSegmentation, frame: Frame, scan_area: Box) -> FrameSegmentation:
    """Return the segmentation of the scan area as one of the whole frame."""

    def place(region: np.ndarray) -> np.ndarray:
        whole = np.zeros((frame.height, frame.width), np.uint8)
        scan_area.crop(whole)[:] = region
        return whole

    outlines = segmentation.outlines
    if outlines:
        outlines = outlines._replace(outer=place(outlines.outer), inner=place(outlines.inner))
    return replace(segmentation, mask=place(segmentation.mask), outlines=outlines)


def build_segmentation(
    probability: np.ndarray, presence: float, config: PostprocessingConfig, can_exclude_nerve: bool = True
) -> FrameSegmentation:
    """Return the segmentation that follows from the network's outputs, without a time and notes.

    probability, presence: of `predict_probabilities`. can_exclude_nerve: see FrameSegmentation.
    """
    mask = postprocess(probability, presence, config)
    confidence, calibrated = mask_confidence(probability, mask, config), config.presence_calibration(presence)
    return FrameSegmentation(mask, calibrated, confidence, milliseconds=0.0, can_exclude_nerve=can_exclude_nerve)


def predict_probabilities(
    runtime: Runtime, card_input: NetworkInput, frame: Frame, all_cores: bool = True
) -> tuple[np.ndarray, float]:
    """Return the probability of nerve per pixel, float32 (height, width) of the frame, and of presence; both 0..1.

    The probabilities are the network's own, not calibrated.

    runtime: the network.
    card_input: the network's input, from its card.
    frame: the frame; all of it is used, also outside its scan area.
    all_cores: use all CPU cores; see `Runtime`.
    """
    output = run_network(runtime, preprocess(frame, card_input), all_cores)
    return resample_to_frame(output.probability, frame), output.presence


def run_network(runtime: Runtime, network_input: np.ndarray, all_cores: bool = True) -> NetworkOutput:
    """Run the network on one frame. network_input: float32 (h, w, 1), normalised.

    Raises ArithmeticError if the outputs are not finite.
    """
    mask, presence = runtime(network_input[np.newaxis], all_cores)
    if not (np.isfinite(mask).all() and np.isfinite(presence).all()):
        raise ArithmeticError(f"the network returns numbers that are not finite on {runtime.device}")
    return NetworkOutput(mask[0, ..., 0], float(presence[0]))


def can_exclude_nerve(card: Card) -> bool:
    """Return whether the model was trained on frames without a nerve, too; else its empty masks say nothing.

    The cards of earlier releases do not say it. Then validation frames of both kinds show it.
    """
    without_nerve = card.trained_on.frames_without_nerve
    if without_nerve is not None:
        return without_nerve > 0
    return card.metrics.get("validation", {}).get("presence_auc") is not None
