"""A mask, a frame, and the mask drawn on its frame, as PNG or JPEG."""

import base64

import cv2
import numpy as np

from service.decoding.frame import Frame

NERVE_BGR = (7, 193, 255)  # amber: far from grey, and visible with colour blindness
TINT = 0.3  # share of the colour inside the outline
FRAME_SIDE_PER_OUTLINE_PX = 300  # the outline is one pixel thick for each 300 of the frame's shorter side
JPEG_QUALITY = 90
OVERLAY_BYTES = 12  # of a pixel: an overlay, its tint, and a PNG that does not compress, twice
FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# A mask consists of runs and needs no filter. Trying the filters takes five times as long as compressing it.
RLE_PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
MASK_PNG = (*FAST_PNG, *RLE_PNG)


def encode_png(image: np.ndarray) -> bytes:
    """Return the PNG of a mask, uint8 (height, width), or of a colour image, uint8 (height, width, 3), BGR."""
    return _encode(".png", image, *(MASK_PNG if image.ndim == 2 else FAST_PNG))


def encode_jpeg(frame: Frame) -> bytes:
    """Return the frame as an 8-bit JPEG, for display only: it is slightly lossy."""
    return _encode(".jpg", _to_8_bits(frame), cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)


def draw_overlay(frame: Frame, mask: np.ndarray) -> np.ndarray:
    """Return the frame with the tint and outline of the mask: uint8 (height, width, 3), BGR.

    mask: uint8 (height, width), the size of the frame, 0 or 255.
    """
    image = cv2.cvtColor(_to_8_bits(frame), cv2.COLOR_GRAY2BGR)
    cv2.copyTo(cv2.LUT(image, _tint_table()), mask, image)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(frame.height, frame.width) / FRAME_SIDE_PER_OUTLINE_PX))
    cv2.drawContours(image, outlines, -1, NERVE_BGR, thickness, cv2.LINE_8)
    return image


def _tint_table() -> np.ndarray:
    """Return the tinted value of each grey value and channel, uint8 (1, 256, 3), for cv2.LUT."""
    tinted = np.arange(256)[:, np.newaxis] * (1 - TINT) + np.array(NERVE_BGR) * TINT
    return tinted.round().astype(np.uint8)[np.newaxis]


def to_data_url(data: bytes, media_type: str) -> str:
    """Return an encoded image as a data URL (RFC 2397), which a browser shows."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _to_8_bits(frame: Frame) -> np.ndarray:
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
