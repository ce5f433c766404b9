"""Draw a mask on its frame."""

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.rendering.image_encoding import to_8_bits

NERVE_BGR = (7, 193, 255)  # amber: far from grey, and visible with colour blindness
TINT = 0.3  # share of the colour inside the outline
FRAME_SIDE_PER_OUTLINE_PX = 300  # the outline is one pixel thick for each 300 of the frame's shorter side
OVERLAY_BYTES = 12  # of a pixel: an overlay, its tint, and a PNG that does not compress, twice


def draw_overlay(frame: Frame, mask: np.ndarray) -> np.ndarray:
    """Return the frame with the tint and outline of the mask: uint8 (height, width, 3), BGR.

    mask: uint8 (height, width), the size of the frame, 0 or 255.
    """
    image = cv2.cvtColor(to_8_bits(frame), cv2.COLOR_GRAY2BGR)
    cv2.copyTo(cv2.LUT(image, _tint_table()), mask, image)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(frame.height, frame.width) / FRAME_SIDE_PER_OUTLINE_PX))
    cv2.drawContours(image, outlines, -1, NERVE_BGR, thickness, cv2.LINE_8)
    return image


def _tint_table() -> np.ndarray:
    """Return the tinted value of each grey value and channel, uint8 (1, 256, 3), for cv2.LUT."""
    tinted = np.arange(256)[:, np.newaxis] * (1 - TINT) + np.array(NERVE_BGR) * TINT
    return tinted.round().astype(np.uint8)[np.newaxis]
