"""An upload's bytes to a frame: what is hostile, broken or no ultrasound frame ends here."""

import io
import os
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from service.errors import FrameError

LIMIT_PX = 4096 * 4096
LEAST_SIDE_PX = 16
LEAST_LIT = 2  # of 255: the mean grey of a row or column that belongs to no black margin

# Pillow reads the header, OpenCV the pixels: should they ever differ over a file's size, OpenCV keeps to the
# limit too. It reads that once, when it is loaded. It would also log every broken upload.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(LIMIT_PX))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
import cv2  # noqa: E402

READABLE = "PNG, JPEG, TIFF and DICOM"
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What Pillow calls 8- and 16-bit grey and colour, with and without alpha, and palettes.
MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16L", "I;16B")

TIFF_PHOTOMETRIC = 262
WHITE_IS_ZERO = 0


class Area(NamedTuple):
    """A rectangle of a frame, in pixels: its left and top edge, its width and height."""

    x: int
    y: int
    width: int
    height: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """The view of (height, width, ...) `pixels` that lies in the area."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class Frame:
    """One ultrasound frame.

    pixels: uint8 or uint16 (height, width), grey, rows down and columns across. area: where the scan lies, None
    where that is unknown and the whole frame is taken for it. spacing: millimetres from one column to the next and
    from one row to the next, where known. index: its place in a cine, from 0. notes: what its reader has to know.
    rate: of its cine, frames a second, where the file tells.
    """

    pixels: np.ndarray
    area: Area | None = None
    spacing: tuple[float, float] | None = None
    index: int = 0
    notes: tuple[str, ...] = ()
    rate: float | None = None

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def scan(self) -> np.ndarray:
        """The pixels of the scan area, without the banner around it."""
        return self.pixels if self.area is None else self.area.of(self.pixels)

    @cached_property
    def lit(self) -> Area:
        """The frame without the black margins that consoles leave beside a scan; all of it where it is black."""
        grey = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        spans = []
        for axis, across in ((0, self.height), (1, self.width)):
            sums = cv2.reduce(grey, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            lit = np.flatnonzero(sums >= LEAST_LIT * across)
            spans.append((int(lit[0]), int(lit[-1]) + 1 - int(lit[0])) if lit.size else (0, sums.size))
        (x, width), (y, height) = spans
        return Area(x, y, width, height)


def decode(data: bytes, limit_px: int = LIMIT_PX) -> Frame:
    """The frame in a PNG, JPEG or TIFF file; colour becomes grey, alpha is ignored.

    Raises FrameError: 400 malformed or truncated, 413 more than `limit_px` pixels, 415 another type of file,
    422 a picture that is no frame (too small, several pages, floats, ...).
    """
    if not data:
        raise FrameError("empty", "The upload is empty: send the frame's file.", 400)
    if not data.startswith(MAGIC):
        raise FrameError("unknown_type", f"The upload is none of the types read here ({READABLE}).", 415)
    white_is_zero = _check_header(data, limit_px)
    pixels = _pixels(data)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise _no_frame("pixel_type", f"its pixels are {pixels.dtype}; 8 or 16 bits, unsigned, are read")
    if pixels.ndim == 3:
        # On the integer type: three equal channels give exactly that grey.
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    if white_is_zero and pixels.dtype == np.uint16:
        pixels = 65535 - pixels  # OpenCV turns it round at 8 bits only
    return Frame(pixels)


def _check_header(data: bytes, limit_px: int) -> bool:
    """Refuse what the header alone gives away, no pixel decoded; true where zero means white."""
    try:
        header = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF"))
        pages = _has_pages(header)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise too_large(limit_px) from fault
    except Exception as fault:  # a hostile header makes Pillow raise nearly anything
        raise _malformed() from fault
    if header.width * header.height > limit_px:
        raise too_large(limit_px)
    if min(header.size) < LEAST_SIDE_PX:
        size = f"{header.width}x{header.height}"
        raise _no_frame("too_small", f"it is {size} pixels; {LEAST_SIDE_PX}x{LEAST_SIDE_PX} are the least")
    if pages:
        raise _no_frame("several_pages", "it holds several pages; send them one by one")
    if header.mode not in MODES:
        raise _no_frame("pixel_type", f"its pixels are of type {header.mode}; 8- and 16-bit grey or RGB are")
    tags = getattr(header, "tag_v2", {})
    return bool(tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO)


def _has_pages(header: Image.Image) -> bool:
    """Whether a second page follows; counting them all could take long in a hostile TIFF."""
    if header.format == "PNG":
        return bool(getattr(header, "is_animated", False))
    try:
        header.seek(1)
    except EOFError:
        return False
    return True


def _pixels(data: bytes) -> np.ndarray:
    """uint8 or uint16 (or what else a TIFF may hold), (height, width) or (height, width, 3 or 4) as BGR(A)."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as fault:
        raise _malformed() from fault
    if pixels is None:
        raise _malformed()
    return pixels


def _malformed() -> FrameError:
    return FrameError("malformed", "The frame's file is damaged or cut short: it cannot be decoded.", 400)


def too_large(limit_px: int) -> FrameError:
    """The refusal of a frame with too many pixels."""
    return FrameError("too_many_pixels", f"The frame has more than {limit_px} pixels.", 413)


def _no_frame(code: str, reason: str) -> FrameError:
    return FrameError(code, f"The picture can be read, but not used: {reason}.", 422)
