"""Decode PNG, JPEG and TIFF files to grey frames.

Every picture file becomes pixels here, for the service and for training. Another file format needs its signature in
SIGNATURES, its Pillow modes in PIXEL_MODES, and a decoder in `_decode_pixels`.
"""

import io

import cv2
import numpy as np
from PIL import Image

from service.decoding.frame import MAX_PIXELS, MIN_SIDE_PX, Frame, too_many_pixels_error
from service.errors import ErrorCode, FrameError

MAX_IMAGE_BYTES = 32 * 1024 * 1024
# The first bytes of a file, by Pillow's name of the format. TIFF: little- and big-endian, and BigTIFF of both.
SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
# Pillow's names for 8- and 16-bit grey and colour, with and without alpha, and for palettes.
PIXEL_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16L", "I;16B")
TIFF_PHOTOMETRIC = 262  # tag PhotometricInterpretation (TIFF 6.0, section 8)
WHITE_IS_ZERO = 0


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Frame:
    """Return the frame in a PNG, JPEG or TIFF file. Colour becomes grey; alpha is ignored.

    The pixels are uint8 or uint16, as in the file. Raises FrameError: 400 empty, damaged or truncated; 413 more than
    `max_pixels` pixels; 415 another file type; 422 a picture that cannot be a frame (too small, several pages, ...).
    """
    if not data:
        raise FrameError(ErrorCode.EMPTY, "The upload is empty. Send the file of the frame.")
    if not any(data.startswith(signature) for signature in SIGNATURES.values()):
        formats = ", ".join(SIGNATURES)
        raise FrameError(ErrorCode.UNKNOWN_TYPE, f"The upload is not a file of a supported type ({formats} or DICOM).")
    header = _check_header(data, max_pixels)
    pixels = _decode_pixels(data)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise unusable_error(ErrorCode.PIXEL_TYPE, f"its pixels are {pixels.dtype}. Send 8- or 16-bit unsigned pixels.")
    return Frame(_to_grey(pixels, _is_white_zero(header)))


def _check_header(data: bytes, max_pixels: int) -> Image.Image:
    """Return the parsed header. Raises FrameError for all that the header alone shows; no pixel is decoded."""
    try:
        header = Image.open(io.BytesIO(data), formats=tuple(SIGNATURES))
        several_pages = _has_second_page(header)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels_error(max_pixels) from error
    except Exception as error:  # a hostile header makes Pillow raise nearly anything
        raise _malformed_error() from error
    if header.width * header.height > max_pixels:
        raise too_many_pixels_error(max_pixels)
    if min(header.size) < MIN_SIDE_PX:
        size, min_size = f"{header.width}x{header.height}", f"{MIN_SIDE_PX}x{MIN_SIDE_PX}"
        raise unusable_error(ErrorCode.TOO_SMALL, f"it has {size} pixels. Send at least {min_size} pixels.")
    if several_pages:
        raise unusable_error(ErrorCode.SEVERAL_PAGES, "it has several pages. Send one file for each page.")
    if header.mode not in PIXEL_MODES:
        reason = f"its pixels have the type {header.mode}. Send 8- or 16-bit grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    return header


def _has_second_page(header: Image.Image) -> bool:
    """Look for the second page only: counting all pages of a hostile TIFF can take long."""
    if header.format == "PNG":
        return bool(getattr(header, "is_animated", False))
    try:
        header.seek(1)
    except EOFError:
        return False
    return True


def _is_white_zero(header: Image.Image) -> bool:
    """Return whether the pixel value 0 means white; only a TIFF can declare that."""
    tags = getattr(header, "tag_v2", {})
    return bool(tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO)


def _decode_pixels(data: bytes) -> np.ndarray:
    """Return (height, width) or (height, width, 3 or 4), BGR or BGRA: uint8, uint16, or another type from a TIFF."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _malformed_error() from error
    if pixels is None:
        raise _malformed_error()
    return pixels


def _to_grey(pixels: np.ndarray, white_is_zero: bool) -> np.ndarray:
    """Return (height, width) of the same type, 0 black. pixels: as `_decode_pixels` returns them."""
    if pixels.ndim == 3:
        # On integers, three equal channels give exactly that grey.
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    if white_is_zero and pixels.dtype == np.uint16:
        pixels = 65535 - pixels  # OpenCV inverts pixels of 8 bits only
    return pixels


def _malformed_error() -> FrameError:
    return FrameError(ErrorCode.MALFORMED, "The frame's file is damaged or cut short: it cannot be decoded.")


def unusable_error(code: ErrorCode, reason: str) -> FrameError:
    """Return the error of a picture that can be read, but cannot be a frame."""
    return FrameError(code, f"The picture cannot be used: {reason}", 422)
