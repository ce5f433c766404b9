"""One ultrasound frame in memory, and rectangles on it."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from service.errors import FrameError

MAX_PIXELS = 4096 * 4096
MIN_SIDE_PX = 16
MIN_MEAN_GREY = 2  # of 255; a row or column with a lower mean belongs to a black margin

# Pillow reads the header, OpenCV the pixels. If they disagree about the size of a picture, OpenCV keeps the limit too.
# OpenCV reads both variables once, when it is loaded. At its default level it logs every broken upload.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
import cv2  # noqa: E402


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


@dataclass(frozen=True)
class Frame:
    """One ultrasound frame.

    pixels: uint8 or uint16 (height, width), grey, rows down axis 0 and columns across axis 1.
    scan_area: the part of the frame that shows tissue. None: unknown, and the whole frame is used.
    spacing_mm: distance from one column to the next, and from one row to the next, in millimetres. None: unknown.
    index: position in the cine, from 0.
    notes: sentences for the reader of the answer, for example about an assumption that was made.
    frame_rate_hz: frames per second of the cine. None: unknown.
    """

    pixels: np.ndarray
    scan_area: Box | None = None
    spacing_mm: tuple[float, float] | None = None
    index: int = 0
    notes: tuple[str, ...] = ()
    frame_rate_hz: float | None = None

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def scan_pixels(self) -> np.ndarray:
        """The pixels of the scan area, as a view: no banner, no text beside the scan."""
        return self.pixels if self.scan_area is None else self.scan_area.crop(self.pixels)

    @cached_property
    def content_box(self) -> Box:
        """The frame without the black margins that consoles leave beside a scan; all of a black frame."""
        grey = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        spans = []
        for axis, length in ((0, self.height), (1, self.width)):
            sums = cv2.reduce(grey, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            content = np.flatnonzero(sums >= MIN_MEAN_GREY * length)
            spans.append((int(content[0]), int(content[-1]) + 1 - int(content[0])) if content.size else (0, sums.size))
        (x, width), (y, height) = spans
        return Box(x, y, width, height)


def too_many_pixels_error(max_pixels: int) -> FrameError:
    """Return the error of a frame with more than `max_pixels` pixels."""
    return FrameError("too_many_pixels", f"The frame has more than {max_pixels} pixels. Send a smaller frame.", 413)
