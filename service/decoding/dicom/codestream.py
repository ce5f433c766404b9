"""Decompress one frame, after a check of the size that its own codestream declares."""

import struct
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from service.decoding.dicom.dicom_header import malformed_error
from service.errors import ErrorCode, FrameError

# Where two decoders are installed and pydicom prefers the slower. For a frame of 580x420, the faster one takes 0.6 ms
# instead of 2.7 (JPEG), 3.4 instead of 4.9 (JPEG-LS), and 0.2 instead of 0.8 (RLE).
FASTER_PLUGINS = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.RLELossless: "pylibjpeg",
}
# Start of frame, any of its kinds, with JPEG-LS (ITU-T T.81 B.1.1.3, T.87 C.1.1).
START_OF_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
START_OF_CODESTREAM_AND_SIZE = b"\xff\x4f\xff\x51"  # SOC and SIZ of JPEG 2000 (ISO/IEC 15444-1 A.5.1)


def decompress_frame(encoded: bytes, options: dict[str, Any]) -> np.ndarray:
    """Return the pixels of one compressed frame; colour as RGB. Runs in the decoder process.

    options: of `check_pixel_options`, for one frame. The result has the type and shape that pydicom's decoders give:
    (rows, columns) or (rows, columns, 3). Raises nearly anything: each decoder has exceptions of its own.
    """
    encapsulated = encapsulate([encoded], has_bot=False)
    return get_decoder(options["transfer_syntax_uid"]).as_array(encapsulated, index=0, **options)[0]


def check_codestream_size(encoded: bytes, options: dict[str, Any]) -> None:
    """Raise FrameError 400 if a compressed frame declares another size than the file: a decoder would believe it."""
    size = _read_codestream_size(encoded, options["transfer_syntax_uid"])
    if size not in (None, (options["rows"], options["columns"])):
        message = f"A compressed frame has another size ({size}) than the file declares."
        raise FrameError(ErrorCode.MALFORMED, message)


def _read_codestream_size(encoded: bytes, syntax: uid.UID) -> tuple[int, int] | None:
    """Return the rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None for RLE: it has none."""
    if syntax == uid.RLELossless:
        return None
    if syntax in uid.JPEG2000TransferSyntaxes:
        start = encoded.find(START_OF_CODESTREAM_AND_SIZE)
        right, bottom, left, top = struct.unpack_from(">LLLL", encoded, start + 8)
        return bottom - top, right - left
    position = 2  # after the marker that starts the image
    while encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker in START_OF_FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", encoded, position + 5)
            return rows, columns
        # A marker may be preceded by any number of bytes 0xFF; a segment's length counts itself.
        position += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", encoded, position + 2)[0]
    raise malformed_error()
