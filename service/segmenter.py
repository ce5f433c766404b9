"""A frame to its mask, and what is known of it; a cine to its masks."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.card import NETWORKS, REMEDY, Card, Input, Precision
from service.cine import Cine
from service.decision import certainty, decide
from service.errors import FrameError, ModelFolderError
from service.familiar import notes
from service.frame import Frame
from service.machine import cores
from service.runtime import Runtime, as_asked, on_cpu, open_runtime
from service.tensor import to_frame, to_tensor

ALONE_SECONDS = 0.1  # without a second frame
AHEAD = 2  # frames of a cine that are begun for each core, while those before them are answered


@dataclass(frozen=True)
class Segmentation:
    """What the network says of a frame.

    mask: uint8 (height, width) of the frame's own size, 0 or 255. presence: probability that the frame holds a
    nerve, 0..1. confidence: the Dice that the mask is likely to reach, 0..1, None where it is empty.
    milliseconds: what the network took, from tensor to mask. notes: what the answer's reader has to know.
    """

    mask: np.ndarray
    presence: float
    confidence: float | None
    milliseconds: float
    notes: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether a nerve is shown."""
        return self.confidence is not None


@dataclass(frozen=True)
class Seen:
    """A frame that was looked at. decode_milliseconds: from the upload's bytes to pixels."""

    frame: Frame
    found: Segmentation
    decode_milliseconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What the answer's reader has to know of the frame, and of how it was seen."""
        return self.frame.notes + self.found.notes


@dataclass(frozen=True)
class Unseen:
    """A frame that could not be looked at, and why."""

    index: int
    fault: FrameError


class AtWork:
    """How many frames are being looked at: a context for each."""

    def __init__(self) -> None:
        self.count = 0
        self.crowded = -math.inf  # when there were last several
        self.changing = threading.Lock()

    @property
    def alone(self) -> bool:
        """Whether a frame may take all cores: it is the only one, and has been for a while.

        Where several come, the next is on its way, here or to the other worker: a network on all cores would wait for
        whichever of its threads finds none free. Of 8 clients' frames the slowest hundredth took 135 ms, and take 6.
        """
        return self.count == 1 and time.monotonic() - self.crowded > ALONE_SECONDS

    def __enter__(self) -> None:
        with self.changing:
            self.count += 1
            if self.count > 1:
                self.crowded = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with self.changing:
            self.count -= 1


class Segmenter:
    """A model folder, opened: raises ModelFolderError where it must not be served.

    precision: what to compute in, on the CPU; None: on the fastest there is, as it is served.
    """

    def __init__(self, folder: Path, precision: Precision | None = None):
        self.folder = folder.resolve()  # a link may lead elsewhere soon
        self.card = Card.read(folder)
        self.at_work = AtWork()
        try:
            if precision is None:
                self.runtime = open_runtime(folder, self.card.precision, self.card.mirrored)
            else:
                self.runtime = as_asked(on_cpu(folder, precision), self.card.mirrored)
            self._warm()
        except Exception as fault:  # each runtime has exceptions of its own
            network = folder / NETWORKS[precision or self.card.precision]
            reason = f"{network} is no network that fits its card ({str(fault).splitlines()[-1]})"
            raise ModelFolderError(f"{reason}: {REMEDY}.") from fault

    def _warm(self) -> None:
        """Ask once: the first answer costs more than the later ones, and shows whether the network fits its card."""
        batch = np.zeros((1, self.card.input.height, self.card.input.width, 1), np.float32)
        mask, presence = self.runtime(batch)
        if mask.shape != batch.shape or presence.shape != (1,):
            raise ValueError(f"answers of shapes {mask.shape} and {presence.shape}")

    def segment(self, frame: Frame) -> Segmentation:
        """The frame's mask, by the card's decision; empty outside the scan area. May be called from several threads."""
        with self.at_work:
            return self._segment(frame)

    def _segment(self, frame: Frame) -> Segmentation:
        start = time.perf_counter()
        scan = Frame(frame.scan)
        probability, presence = probabilities(self.runtime, self.card.input, scan, alone=self.at_work.alone)
        decision = self.card.decision
        mask = decide(probability, presence, decision)
        certain = certainty(probability, mask, decision.pixel_calibration)
        confidence = None if certain is None else decision.certainty_calibration(certain)
        if frame.area is not None:
            scanned, mask = mask, np.zeros((frame.height, frame.width), np.uint8)
            frame.area.of(mask)[:] = scanned
        presence = decision.presence_calibration(presence)
        noted = notes(scan.lit.of(scan.pixels), self.card.familiar)
        return Segmentation(mask, presence, confidence, (time.perf_counter() - start) * 1000, noted)

    def see(self, cine: Cine, index: int) -> Seen:
        """One frame of a cine. Raises FrameError."""
        return self._see(cine, cine.encoded_at(index), index)

    def see_all(self, cine: Cine) -> Iterator[list[Seen | Unseen]]:
        """A cine's frames in their order, as soon as they are done: those of them that are, one at least.

        A damaged one does not stop the rest.
        """
        waiting: deque[tuple[int, Future[Seen]]] = deque()
        pool = ThreadPoolExecutor(cores(), "cine")
        try:
            for index in range(cine.count):
                waiting.append((index, pool.submit(self._see, cine, cine.encoded_at(index), index)))
                # The first is not made to share the cores: somebody waits for it.
                if len(waiting) > (AHEAD * cores() if index else 0):
                    yield _done(waiting)
            while waiting:
                yield _done(waiting)
        finally:  # also where the answer is given up, and this is cleared away in one of the pool's own threads
            pool.shutdown(wait=False, cancel_futures=True)

    def _see(self, cine: Cine, encoded: bytes, index: int) -> Seen:
        with self.at_work:
            start = time.perf_counter()
            frame = cine.decode(encoded, index)
            decoded = (time.perf_counter() - start) * 1000
            return Seen(frame, self._segment(frame), decoded)


def _done(waiting: deque[tuple[int, Future[Seen]]]) -> list[Seen | Unseen]:
    """The first of those that wait, and what is done behind it."""
    found = [_outcome(*waiting.popleft())]
    while waiting and waiting[0][1].done():
        found.append(_outcome(*waiting.popleft()))
    return found


def _outcome(index: int, seen: Future[Seen]) -> Seen | Unseen:
    try:
        return seen.result()
    except FrameError as fault:
        return Unseen(index, fault)


def probabilities(runtime: Runtime, network: Input, frame: Frame, alone: bool = True) -> tuple[np.ndarray, float]:
    """Probability of nerve for each pixel, float32 (height, width) of the frame, and of a nerve's presence; 0..1."""
    mask, presence = runtime(to_tensor(frame, network)[np.newaxis], alone)
    return to_frame(mask[0, ..., 0], frame), float(presence[0])
