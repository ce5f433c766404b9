"""Encode masks, overlays and frames as PNG or JPEG."""

import base64

import cv2
import numpy as np

from service.decoding.frame import Frame

JPEG_QUALITY = 90
FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# A mask consists of runs and needs no filter. Trying the filters takes five times as long as compressing it.
RLE_PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
MASK_PNG = (*FAST_PNG, *RLE_PNG)


def encode_png(image: np.ndarray) -> bytes:
    """Return the PNG of a mask, uint8 (height, width), or of a colour image, uint8 (height, width, 3), BGR."""
    return _encode(".png", image, *(MASK_PNG if image.ndim == 2 else FAST_PNG))


def encode_jpeg(frame: Frame) -> bytes:
    """Return the frame as an 8-bit JPEG, for display only: it is slightly lossy."""
    return _encode(".jpg", to_8_bits(frame), cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)


def to_data_url(data: bytes, media_type: str) -> str:
    """Return an encoded image as a data URL (RFC 2397), which a browser shows."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def to_8_bits(frame: Frame) -> np.ndarray:
    """Return the pixels as uint8 (height, width)."""
    pixels = frame.pixels
    if pixels.dtype == np.uint8:
        return pixels
    grey = np.empty(pixels.shape, np.uint8)
    return np.floor_divide(pixels, 257, out=grey, casting="unsafe")


def _encode(extension: str, image: np.ndarray, *options: int) -> bytes:
    succeeded, data = cv2.imencode(extension, image, options)
    if not succeeded:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape} as {extension}")
    return data.tobytes()
