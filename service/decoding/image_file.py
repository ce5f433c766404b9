"""Decode picture files to grey frames: PNG, JPEG, JPEG-LS, JPEG XL, JPEG 2000 and TIFF.

Every picture file becomes pixels here, for the service and for training. Another format needs an entry in
`picture_formats` and a reader in READERS.
"""

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from service.decoding import tiff_file
from service.decoding.frame import MAX_PIXELS, MIN_SIDE_PX, Frame, too_many_pixels_error
from service.decoding.jpeg_header import JPEG_LS, read_jpeg_header
from service.decoding.picture_formats import DEFAULT_REMEDY, PICTURES, VIDEOS, Format, detect_format, remedy
from service.decoding.pixel_range import UPRIGHT, DecodedPixels, spread_to_16_bits, to_grey, turn_upright
from service.errors import ErrorCode, FrameError

MAX_IMAGE_BYTES = 32 * 1024 * 1024
ORIENTATION = 274  # tag of EXIF and TIFF
# Pillow's names for 8- and 16-bit grey and colour, with and without alpha, and for palettes.
PNG_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16")


class StoredPixels(NamedTuple):
    """Pixels as a file stores them, and what its header says about them.

    pixels: (height, width), or with 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, of any type.
    depth: bits of a sample. orientation: the tag of EXIF and TIFF.
    """

    pixels: np.ndarray
    depth: int = 16
    orientation: int = UPRIGHT
    notes: tuple[str, ...] = ()


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Frame:
    """Return the frame in a picture file with a single picture. Colour becomes grey.

    The pixels are uint8 or uint16 and upright, and fill their range. Notes say what was repaired.

    Raises FrameError: 400 empty, damaged or truncated; 413 more than `max_pixels` pixels; 415 another file type;
    422 a picture that cannot be a frame (too small, several pages, ...).
    """
    pages = tiff_file.list_pages(data) if check_format(data) is Format.TIFF else [0]
    if len(pages) > 1:
        raise unusable_error(ErrorCode.SEVERAL_PAGES, "it has several pages. Send one file for each page.")
    decoded = decode_picture(data, pages[0], max_pixels)
    return Frame(decoded.pixels, notes=decoded.notes)


def check_format(data: bytes) -> Format:
    """Return the format of a picture or video. Raises FrameError: 400 empty, 415 a format that is not read."""
    if not data:
        raise FrameError(ErrorCode.EMPTY, "The upload is empty. Send the file of the frame.")
    file_format = detect_format(data)
    if isinstance(file_format, Format):
        return file_format
    if file_format is None:
        message = f"The type of the file is unknown. {DEFAULT_REMEDY}."
    else:
        message = f"The file is {file_format}, which is not read. {remedy(file_format)}."
    raise FrameError(ErrorCode.UNKNOWN_TYPE, message)


def decode_picture(data: bytes, page: int = 0, max_pixels: int = MAX_PIXELS) -> DecodedPixels:
    """Return the pixels of a picture as `Frame.pixels` holds them, and notes on what was repaired.

    page: position in the file's pages, as `tiff_file.list_pages` gives it; 0 for all other formats. Raises FrameError.
    """
    file_format = check_format(data)
    if file_format in VIDEOS:
        reason = "it is a video. Send it to the service as a cine."
        raise unusable_error(ErrorCode.SEVERAL_FRAMES, reason)
    try:
        stored = READERS[file_format](data, page, max_pixels)
    except FrameError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels_error(max_pixels) from error
    except Exception as error:  # a hostile file makes decoders raise exceptions of many classes
        raise malformed_error() from error
    return _standardise(stored)


def _standardise(stored: StoredPixels) -> DecodedPixels:
    """Return grey, upright pixels that fill their range."""
    if stored.pixels.dtype not in (np.uint8, np.uint16):
        reason = f"its pixels are {stored.pixels.dtype}. Send 8- or 16-bit unsigned pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    if stored.pixels.ndim not in (2, 3) or (stored.pixels.ndim == 3 and stored.pixels.shape[2] not in (2, 3, 4)):
        reason = f"its pixels have the shape {stored.pixels.shape}. Send grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    grey = to_grey(stored.pixels)
    spread = spread_to_16_bits(grey.pixels, stored.depth)
    upright = turn_upright(spread.pixels, stored.orientation)
    return DecodedPixels(upright.pixels, stored.notes + grey.notes + spread.notes + upright.notes)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raise FrameError for a picture that has too many pixels or is too small to be a frame."""
    if height * width > max_pixels:
        raise too_many_pixels_error(max_pixels)
    if min(height, width) < MIN_SIDE_PX:
        reason = f"it has {width}x{height} pixels. Send at least {MIN_SIDE_PX}x{MIN_SIDE_PX} pixels."
        raise unusable_error(ErrorCode.TOO_SMALL, reason)


def _read_png(data: bytes, page: int, max_pixels: int) -> StoredPixels:
    header = Image.open(io.BytesIO(data), formats=("PNG",))
    check_size(header.height, header.width, max_pixels)
    if getattr(header, "is_animated", False):
        reason = "it is an animated PNG. Send one file for each frame, or a video as MP4 or AVI."
        raise unusable_error(ErrorCode.SEVERAL_PAGES, reason)
    if header.mode not in PNG_MODES:
        reason = f"its pixels have the type {header.mode}. Send 8- or 16-bit grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    pixels = _first_success(data, _decode_with_opencv, imagecodecs.png_decode)
    return StoredPixels(pixels, orientation=_read_orientation(header))


def _read_jpeg(data: bytes, page: int, max_pixels: int) -> StoredPixels:
    header = read_jpeg_header(data)
    if not header.is_complete:  # some decoders would fill the rest with grey
        raise malformed_error()
    check_size(header.rows, header.columns, max_pixels)
    if len(header.component_ids) not in (1, 3):
        reason = f"it has {len(header.component_ids)} colour components. Send grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    if header.frame_marker == JPEG_LS:
        return StoredPixels(imagecodecs.jpegls_decode(data), _stored_depth(header.precision))
    decoders = (_decode_with_opencv, imagecodecs.jpeg_decode)
    pixels = _first_success(data, *(decoders if header.precision == 8 else decoders[1:]))
    orientation = UPRIGHT
    notes: tuple[str, ...] = ()
    try:
        exif = Image.open(io.BytesIO(data), formats=("JPEG",))
        orientation = _read_orientation(exif)
        if getattr(exif, "n_frames", 1) > 1:
            notes = ("the file has further pictures, for example a preview: the first one was read",)
    except Exception:  # Pillow does not open every JPEG that the others decode
        pass
    return StoredPixels(pixels, _stored_depth(header.precision), orientation, notes)


def _read_jpeg_xl(data: bytes, page: int, max_pixels: int) -> StoredPixels:
    pixels = imagecodecs.jpegxl_decode(data)
    check_size(pixels.shape[0], pixels.shape[1], max_pixels)
    return StoredPixels(pixels)


def _read_jpeg_2000(data: bytes, page: int, max_pixels: int) -> StoredPixels:
    start = data.find(b"\xff\x4f\xff\x51")  # SOC and SIZ (ISO/IEC 15444-1 A.5.1)
    right, bottom, left, top = struct.unpack_from(">LLLL", data, start + 8)
    check_size(bottom - top, right - left, max_pixels)
    precision = (data[start + 42] & 0x7F) + 1
    return StoredPixels(
        _first_success(data, imagecodecs.jpeg2k_decode, imagecodecs.htj2k_decode), _stored_depth(precision)
    )


def _read_tiff(data: bytes, page: int, max_pixels: int) -> StoredPixels:
    header = tiff_file.read_page_header(data, page)
    check_size(header.height, header.width, max_pixels)
    if header.unreadable:
        raise unusable_error(
            ErrorCode.PIXEL_TYPE, f"its pixels are {header.unreadable}. Send 8- or 16-bit grey or RGB."
        )
    return StoredPixels(tiff_file.read_page(data, page), _stored_depth(header.depth), header.orientation)


READERS: dict[Format, Callable[[bytes, int, int], StoredPixels]] = {
    Format.PNG: _read_png,
    Format.JPEG: _read_jpeg,
    Format.JPEG_LS: _read_jpeg,
    Format.JPEG_XL: _read_jpeg_xl,
    Format.JPEG_2000: _read_jpeg_2000,
    Format.TIFF: _read_tiff,
}
assert set(READERS) == set(PICTURES)


def _first_success(data: bytes, *decoders: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """Return what the first decoder returns that accepts the file. Raises the exception of the last one."""
    for decoder in decoders[:-1]:
        try:
            return decoder(data)
        except Exception:  # each decoder has exceptions of its own
            continue
    return decoders[-1](data)


def _decode_with_opencv(data: bytes) -> np.ndarray:
    """Return (height, width), or (height, width, 3 or 4) as RGB or RGBA. Raises ValueError or cv2.error."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("OpenCV cannot decode the file")
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB, dst=pixels)


def _stored_depth(precision: int) -> int:
    """Return the depth to trust: a file with 16-bit samples often uses fewer bits, and one with fewer bits says so."""
    return precision if 8 < precision < 16 else 16


def read_orientation(data: bytes) -> int:
    """Return the tag Orientation of a picture file; 1, upright, if it has none or is damaged."""
    try:
        return _read_orientation(Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")))
    except Exception:  # a hostile header makes Pillow raise exceptions of many classes
        return UPRIGHT


def _read_orientation(header: Image.Image) -> int:
    try:
        return int(header.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # EXIF may hold values of any type
        return UPRIGHT


def malformed_error() -> FrameError:
    """Return the error of a file whose content is damaged."""
    return FrameError(ErrorCode.MALFORMED, "The frame's file is damaged or truncated: it cannot be decoded.")


def unusable_error(code: ErrorCode, reason: str) -> FrameError:
    """Return the error of a picture that can be read, but cannot be a frame."""
    return FrameError(code, f"The picture cannot be used: {reason}")
