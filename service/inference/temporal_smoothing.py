"""Motion-compensated temporal smoothing of the network's outputs for a cine.

The network sees each frame alone, so its mask flickers where it is uncertain. Here the outputs for earlier frames
follow the tissue by dense optical flow (Kroeger, Timofte, Dai and Van Gool 2016, "Fast optical flow using dense inverse
search"), and are averaged with those for the frame (an exponential moving average of log-odds). No later frame is
needed, so a stream is not delayed. At a cut, where a picture does not continue the one before, the average starts
again.

docs/accuracy.md (Cines) has the figures.
"""

import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

NEW_FRAME_WEIGHT = 0.35  # of the frame's own outputs in the average
MIN_CORRELATION = 0.8  # of a frame with the warped one before, both high-pass filtered; below it there is a cut
GREY_SCALE = 48.0  # grey values per standard deviation of the network's input
FLOW_SCALE = 2  # the flow is computed from pictures of half the size of the network's input
MIN_FLOW_PX, MAX_FLOW_ASPECT = 24, 4  # DIS fails for smaller or longer pictures; then nothing is smoothed
HIGH_PASS_PX = 15  # of the half-size picture: wider changes say nothing about a cut
MIN_PROBABILITY = 1e-4  # the log-odds of 0 and 1 are infinite
BLUR_PX = 0.7  # standard deviation, in the half-size picture; speckle changes from frame to frame without motion


@dataclass(frozen=True)
class NetworkOutput:
    """What the network returns for a frame. Both are the network's own probabilities, not calibrated.

    probability: of nerve, float32 (h, w) of the network's input, 0..1. presence: of a nerve in the frame, 0..1.
    """

    probability: np.ndarray
    presence: float


@dataclass(frozen=True)
class SmoothedFrame:
    """What the next frame needs of a frame.

    shape: rows and columns of the frame. picture: see `flow_picture`. output: smoothed.
    """

    shape: tuple[int, ...]
    picture: np.ndarray
    output: NetworkOutput


def smooth(frame: SmoothedFrame, previous: SmoothedFrame | None) -> SmoothedFrame:
    """Return the frame with the average of its output and of the previous frame's, unless there is a cut."""
    shortest, longest = sorted(frame.picture.shape)
    has_flow = shortest >= MIN_FLOW_PX and longest <= MAX_FLOW_ASPECT * shortest
    if previous is None or previous.shape != frame.shape or not has_flow:
        return frame
    flow = _optical_flow(frame.picture, previous.picture)
    continues = cv2.computeECC(_high_pass(_warp(previous.picture, flow)), _high_pass(frame.picture)) >= MIN_CORRELATION
    if not continues:  # also without any detail, where the correlation is not a number
        return frame
    log_odds = _log_odds(frame.output.probability)
    before = _warp(_log_odds(previous.output.probability), FLOW_SCALE * _upsample(flow, log_odds.shape), log_odds)
    presence_before, presence = (_log_odds(np.array(of.output.presence)) for of in (previous, frame))
    output = NetworkOutput(_average(log_odds, before), float(_average(presence, presence_before)))
    return replace(frame, output=output)


class TemporalSmoother:
    """Smooths the frames of one cine or stream in their order, although several threads segment them.

    One thread at a time may call `next_frame`. Each frame waits for the one before: a cine cannot be faster than one
    optical flow after the other.
    """

    def __init__(self) -> None:
        self.segmenter: Callable[[], object] = lambda: None
        self.last: Future[SmoothedFrame | None] | None = None

    def next_frame(self, segmenter: object) -> "SmoothingTurn":
        """Return the turn of the next frame. After another segmenter's frame the average starts again."""
        if segmenter is not self.segmenter():
            self.segmenter = weakref.ref(segmenter)  # an idle stream must not keep an old model in memory
            self.last = None
        turn = SmoothingTurn(self.last)
        self.last = turn.result
        return turn

    def restart(self) -> None:
        """Start the average again with the next frame: the one before it has no mask."""
        self.last = None


class SmoothingTurn:
    """The turn of one frame.

    previous: of the frame before; None without one.
    result: of this frame; it holds None if the frame is not segmented.
    waited_seconds: how long this frame has waited for the one before.
    """

    def __init__(self, previous: Future[SmoothedFrame | None] | None):
        self.previous = previous
        self.result: Future[SmoothedFrame | None] = Future()
        self.waited_seconds = 0.0

    def smooth(self, shape: tuple[int, ...], network_input: np.ndarray, output: NetworkOutput) -> NetworkOutput:
        """Wait for the previous frame, and return the smoothed output.

        shape: rows and columns of the frame. network_input: float32 (h, w, 1), normalised.
        """
        frame = SmoothedFrame(shape, flow_picture(network_input), output)
        start = time.perf_counter()
        previous = self.previous.result() if self.previous else None
        self.waited_seconds = time.perf_counter() - start
        smoothed = smooth(frame, previous)
        with suppress(InvalidStateError):  # the turn has ended: the caller has had an error
            self.result.set_result(smoothed)
        return smoothed.output

    def end(self, _: object = None) -> None:
        """Let the next frame go on, also if this one failed or was cancelled."""
        with suppress(InvalidStateError):  # the frame has a result
            self.result.set_result(None)


def flow_picture(network_input: np.ndarray) -> np.ndarray:
    """Return the picture whose motion is followed: uint8, 1 / FLOW_SCALE of the network's input in both directions.

    network_input: float32 (h, w, 1), normalised.
    """
    grey = cv2.resize(network_input[..., 0], None, fx=1 / FLOW_SCALE, fy=1 / FLOW_SCALE, interpolation=cv2.INTER_AREA)
    return np.clip(128 + GREY_SCALE * cv2.GaussianBlur(grey, (0, 0), BLUR_PX), 0, 255).astype(np.uint8)


def _optical_flow(picture: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Return where each pixel was before, relative to its place: float32 (h, w, 2), columns and rows."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    return np.asarray(flow.calc(picture, previous, None))  # type: ignore[call-overload]


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> np.ndarray:
    """Return the place of each pixel: float32 (height, width, 2), column and row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows], axis=-1).astype(np.float32)


def _warp(picture: np.ndarray, flow: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """Return the picture (h, w) with each pixel taken from where it was.

    flow: float32 (h, w, 2), from the pixel's own place. outside: values (h, w) of pixels that come from outside the
        picture; None: those of its edge.
    """
    origin = flow + _grid(*picture.shape)
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_TRANSPARENT
    start = None if outside is None else outside.copy()
    warped = cv2.remap(picture, origin, None, cv2.INTER_LINEAR, start, border)  # type: ignore[call-overload]
    return np.asarray(warped)


def _upsample(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(flow, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _high_pass(picture: np.ndarray) -> np.ndarray:
    """Return the picture without its slow changes: float32 (h, w). Those are alike in frames of different tissue."""
    grey = picture.astype(np.float32)
    return grey - cv2.blur(grey, (HIGH_PASS_PX, HIGH_PASS_PX))


def _log_odds(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.log(clipped / (1 - clipped))


def _average(log_odds: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the average of a frame's and of the earlier log-odds, as a probability, float32.

    The average of log-odds stays as sharp as they are, so the confidence of a mask keeps its meaning. An average of
    probabilities would be nearer to 0.5.
    """
    average = before + NEW_FRAME_WEIGHT * (log_odds - before)
    return (1 / (1 + np.exp(-average))).astype(np.float32)
