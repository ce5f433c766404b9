"""A mask, a frame, and the one upon the other, as pictures."""

import base64

import cv2
import numpy as np

from service.frame import Frame

NERVE_BGR = (7, 193, 255)  # amber: far from grey, and told from it by people who see few colours
TINT = 0.3  # share of the colour inside the outline
JPEG_QUALITY = 90
QUICK_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# Trying the filters of a PNG takes five times as long as deflating a mask, whose runs need none.
RUNS = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
FLAT_PNG = (*QUICK_PNG, *RUNS)


def png(picture: np.ndarray) -> bytes:
    """uint8 (height, width), a mask, or (height, width, 3), BGR, as a PNG."""
    return _encoded(".png", picture, *(FLAT_PNG if picture.ndim == 2 else QUICK_PNG))


def jpeg(frame: Frame) -> bytes:
    """The frame for the eye: 8 bits, slightly lossy."""
    return _encoded(".jpg", _bytes_of(frame), cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)


def overlay(frame: Frame, mask: np.ndarray) -> np.ndarray:
    """The frame with the mask's tint and outline upon it: uint8 (height, width, 3), BGR.

    mask: uint8 (height, width) of the frame's own size, 0 or 255.
    """
    picture = cv2.cvtColor(_bytes_of(frame), cv2.COLOR_GRAY2BGR)
    inside = mask > 0
    tinted = picture[inside] * (1 - TINT) + np.array(NERVE_BGR) * TINT
    picture[inside] = tinted.round().astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(frame.height, frame.width) / 300))
    cv2.drawContours(picture, outlines, -1, NERVE_BGR, thickness, cv2.LINE_8)
    return picture


def data_url(data: bytes, kind: str) -> str:
    """A picture as text that a browser shows."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _bytes_of(frame: Frame) -> np.ndarray:
    """uint8 (height, width), 16 bits brought to 8."""
    pixels = frame.pixels
    return pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)


def _encoded(kind: str, picture: np.ndarray, *settings: int) -> bytes:
    written, data = cv2.imencode(kind, picture, settings)
    if not written:
        raise ValueError(f"OpenCV cannot encode a picture of {picture.shape} as {kind}")
    return data.tobytes()
