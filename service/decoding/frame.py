"""One ultrasound frame in memory, and the limits on its size."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.decoding.cropping import Box, find_content_box
from service.errors import ErrorCode, FrameError

MAX_PIXELS = 4096 * 4096
MIN_SIDE_PX = 16
MAX_FRAMES = 10_000  # of a cine
MIN_FRAME_RATE_HZ, MAX_FRAME_RATE_HZ = 0.1, 1000.0  # rates outside are taken for errors of the file


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
        """The frame without its black margins."""
        return find_content_box(self.pixels)


def too_many_pixels_error(max_pixels: int) -> FrameError:
    """Return the error of a frame with more than `max_pixels` pixels."""
    return FrameError(ErrorCode.TOO_MANY_PIXELS, f"The frame has more than {max_pixels} pixels. Send a smaller frame.")
