"""Between a frame and the network; training prepares its data with these very functions."""

import cv2
import numpy as np

from service.card import Input
from service.frame import Frame

# Grey values, of 0 to 255: keeps the division finite where a frame is all one grey.
LEAST_DEVIATION = 1e-3


def to_tensor(frame: Frame, card_input: Input) -> np.ndarray:
    """The frame as the network takes it: float32 (card_input.height, card_input.width, 1), normalised.

    What is lit of the frame is stretched to the network's size, without regard to its aspect. A frame of 16 bits is
    brought to the scale of 8 first, so the same picture gives the same tensor, bit by bit, at either depth.
    """
    grey = frame.lit.of(frame.pixels).astype(np.float32)
    if frame.pixels.dtype == np.uint16:
        grey /= 257  # 65535 / 255
    grey = _stretch(grey, card_input.height, card_input.width)

    mean, deviation = card_input.normalisation.mean, card_input.normalisation.deviation
    if mean is None or deviation is None:  # of kind "frame"
        mean = float(grey.mean(dtype=np.float64))
        deviation = float(grey.std(dtype=np.float64)) + LEAST_DEVIATION
    return ((grey - np.float32(mean)) / np.float32(deviation))[..., np.newaxis]


def to_frame(probability: np.ndarray, frame: Frame) -> np.ndarray:
    """A network's map, float32 (h, w) in 0..1, where it belongs on the frame: float32 (height, width), bilinear;
    0 where the frame is not lit."""
    lit = frame.lit
    stretched = cv2.resize(probability, (lit.width, lit.height), interpolation=cv2.INTER_LINEAR)
    if stretched.shape == frame.pixels.shape:
        return stretched
    placed = np.zeros(frame.pixels.shape, np.float32)
    lit.of(placed)[:] = stretched
    return placed


def _stretch(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (h, w) to float32 (height, width): an axis that shrinks is averaged, one that grows interpolated.

    Two steps, because INTER_AREA interpolates badly where one axis grows.
    """
    rows, columns = grey.shape
    shrunk = cv2.resize(grey, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
