"""Draw a mask and its outlines on its frame."""

from collections.abc import Iterable

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.rendering.image_encoding import to_8_bits

NERVE_BGR = (7, 193, 255)  # amber: far from grey, and visible with colour blindness
OUTLINES_BGR = (233, 180, 86)  # sky blue: far from amber, also with colour blindness
TINT = 0.3  # share of the colour inside the outline
FRAME_SIDE_PER_OUTLINE_PX = 300  # the outline is one pixel thick for each 300 of the frame's shorter side
OVERLAY_BYTES = 12  # of a pixel: an overlay, its tint, and a PNG that does not compress, twice


def draw_overlay(frame: Frame, mask: np.ndarray, outlined: Iterable[np.ndarray] = ()) -> np.ndarray:
    """Return the frame with the tint and outline of the mask: uint8 (height, width, 3), BGR.

    mask: uint8 (height, width), the size of the frame, 0 or 255.
    outlined: further regions like the mask; of each only its outline is drawn, in another colour.
    """
    image = cv2.cvtColor(to_8_bits(frame), cv2.COLOR_GRAY2BGR)
    cv2.copyTo(cv2.LUT(image, _tint_table()), mask, image)
    thickness = max(1, round(min(frame.height, frame.width) / FRAME_SIDE_PER_OUTLINE_PX))
    for region, colour in [*((region, OUTLINES_BGR) for region in outlined), (mask, NERVE_BGR)]:
        contours, _ = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, colour, thickness, cv2.LINE_8)
    return image


def _tint_table() -> np.ndarray:
    """Return the tinted value of each grey value and channel, uint8 (1, 256, 3), for cv2.LUT."""
    tinted = np.arange(256)[:, np.newaxis] * (1 - TINT) + np.array(NERVE_BGR) * TINT
    return tinted.round().astype(np.uint8)[np.newaxis]
