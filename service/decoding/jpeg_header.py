"""Read the header of a JPEG or JPEG-LS codestream: its size, precision and components (ITU-T T.81, T.87)."""

import struct
from typing import NamedTuple

from service.errors import ErrorCode, FrameError

# Start of frame, any of its kinds, with JPEG-LS (ITU-T T.81 B.1.1.3, T.87 C.1.1).
START_OF_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
JPEG_LS = 0xF7
JPEG_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
END_OF_IMAGE, START_OF_SCAN = b"\xff\xd9", b"\xff\xda"
MAX_SCANS = 100  # encoders write ten; each costs as much time as the whole picture
APP0, APP14 = 0xE0, 0xEE
RGB_IDS = (ord("R"), ord("G"), ord("B"))


class JpegHeader(NamedTuple):
    """What a codestream declares.

    frame_marker: the second byte of the start-of-frame marker, for example 0xC0 for baseline.
    precision: bits of a sample.
    component_ids, sampling: of each component; sampling is (horizontal, vertical).
    adobe_transform: of the Adobe marker: 0 none, 1 YCbCr, 2 YCCK. None: no such marker.
    is_complete: whether an end-of-image marker follows. A preview in EXIF, with its own marker, precedes the frame.
    """

    frame_marker: int
    precision: int
    rows: int
    columns: int
    component_ids: tuple[int, ...]
    sampling: tuple[tuple[int, int], ...]
    has_jfif: bool
    adobe_transform: int | None
    is_complete: bool

    @property
    def colour_space(self) -> str | None:
        """ "YCbCr" or "RGB" as libjpeg decides; None without three components, and if only a guess is possible."""
        if len(self.component_ids) != 3:
            return None
        if self.has_jfif or self.adobe_transform == 1:
            return "YCbCr"
        if self.adobe_transform == 0 or self.component_ids == RGB_IDS:
            return "RGB"
        return "YCbCr" if len(set(self.sampling)) > 1 else None  # nobody subsamples red, green or blue


def read_jpeg_header(codestream: bytes) -> JpegHeader:
    """Return the header.

    Raises FrameError 413 for more than MAX_SCANS scans; ValueError, IndexError or struct.error for a damaged header.
    """
    position = 2  # after the marker that starts the image
    has_jfif, adobe_transform = False, None
    while codestream[position] == 0xFF:
        marker = codestream[position + 1]
        body = codestream[position + 4 : position + 260]
        if marker == APP0 and body.startswith(b"JFIF\0"):
            has_jfif = True
        elif marker == APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe_transform = body[11]
        elif marker in START_OF_FRAME_MARKERS:
            precision, rows, columns, count = struct.unpack_from(">BHHB", body)
            components = [body[6 + 3 * index : 8 + 3 * index] for index in range(count)]
            ids, factors = zip(*components, strict=True) if components else ((), ())
            sampling = tuple((factor >> 4, factor & 15) for factor in factors)
            _check_scans(codestream, position)
            is_complete = codestream.rfind(END_OF_IMAGE, position) >= 0  # from the end, where it mostly is
            return JpegHeader(marker, precision, rows, columns, ids, sampling, has_jfif, adobe_transform, is_complete)
        # Any number of bytes 0xFF may precede a marker; the length of a segment counts itself.
        position += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", codestream, position + 2)[0]
    raise ValueError("the codestream has no start of frame")


def _check_scans(codestream: bytes, position: int) -> None:
    """Raise FrameError 413 for more than MAX_SCANS scans. position: of the start of frame.

    The marker cannot be in the compressed data: there, each byte 0xFF is followed by 0.
    """
    if (scans := codestream.count(START_OF_SCAN, position)) > MAX_SCANS:
        message = f"The JPEG has {scans} scans. Send a JPEG of at most {MAX_SCANS} scans, for example a baseline JPEG."
        raise FrameError(ErrorCode.TOO_MANY_SCANS, message)
