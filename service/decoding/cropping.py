"""Rectangles on a frame, and the crop of the black margins that consoles leave beside a scan."""

from typing import NamedTuple

import cv2
import numpy as np

MIN_MEAN_GREY = 2  # of 255; a row or column with a lower mean belongs to a black margin


class Box(NamedTuple):
    """A rectangle on a frame, in pixels: column of its left edge, row of its top edge, width and height."""

    x: int
    y: int
    width: int
    height: int

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Return the part of `pixels` inside the box, as a view.

        pixels: (height, width, ...), rows down axis 0 and columns across axis 1.
        """
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


def find_content_box(pixels: np.ndarray) -> Box:
    """Return the frame without its black margins; all of a black frame.

    pixels: uint8 or uint16 (height, width).
    """
    grey = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    spans = []
    for axis, length in enumerate(grey.shape):
        sums = cv2.reduce(grey, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        content = np.flatnonzero(sums >= MIN_MEAN_GREY * length)
        spans.append((int(content[0]), int(content[-1]) + 1 - int(content[0])) if content.size else (0, sums.size))
    (x, width), (y, height) = spans
    return Box(x, y, width, height)
