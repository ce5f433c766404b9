"""Convert a frame to the network's input, and the network's output back to the frame.

Training prepares its arrays with the same functions.
"""

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.model.card import NetworkInput

MIN_STD = 1e-3  # on the grey scale of 0..255; keeps the division finite for a frame of one grey value


def preprocess(frame: Frame, card_input: NetworkInput) -> np.ndarray:
    """Return the network's input: float32 (card_input.height, card_input.width, 1), normalised.

    The frame without its black margins is resized to the input size; the aspect ratio may change. 16-bit pixels are
    scaled to 0..255 first, so a picture gives the same input, bit for bit, at 8 and at 16 bits.
    """
    grey = frame.content_box.crop(frame.pixels).astype(np.float32)
    if frame.pixels.dtype == np.uint16:
        grey /= 257  # 65535 / 255
    grey = _resize(grey, card_input.height, card_input.width)

    mean, std = card_input.normalization.mean, card_input.normalization.std
    if mean is None or std is None:  # normalization.kind is "frame"
        mean = float(grey.mean(dtype=np.float64))
        std = float(grey.std(dtype=np.float64)) + MIN_STD
    return ((grey - np.float32(mean)) / np.float32(std))[..., np.newaxis]


def resample_to_frame(probability: np.ndarray, frame: Frame) -> np.ndarray:
    """Return a network's probability map at the frame's size: float32 (height, width), 0..1, bilinear.

    probability: float32 (h, w), 0..1. The black margins of the frame get 0.
    """
    box = frame.content_box
    resized = cv2.resize(probability, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    if resized.shape == frame.pixels.shape:
        return resized
    full = np.zeros(frame.pixels.shape, np.float32)
    box.crop(full)[:] = resized
    return full


def _resize(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize float32 (h, w) to float32 (height, width): average along an axis that shrinks, interpolate along others.

    Two steps, because INTER_AREA interpolates badly if one axis grows.
    """
    rows, columns = grey.shape
    shrunk = cv2.resize(grey, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
