"""Decode picture files to grey frames: PNG, JPEG, JPEG-LS, JPEG XL, JPEG 2000 and TIFF.

Every picture file becomes pixels here, for the service and for training. Another format needs an entry in
`file_formats` and a reader in READERS.
"""

import io
from collections.abc import Callable
from typing import IO, NamedTuple

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from service.decoding import tiff_file
from service.decoding.file_formats import DEFAULT_REMEDY, PICTURES, VIDEOS, Format, detect_format, remedy
from service.decoding.frame import MAX_PIXELS, MIN_SIDE_PX, Frame, too_many_pixels_error
from service.decoding.jpeg_2000_header import complete_jpeg_2000, read_jpeg_2000_header
from service.decoding.jpeg_damage import notes_of_messages
from service.decoding.jpeg_header import JPEG_LS, read_jpeg_header
from service.decoding.native_messages import native_messages
from service.decoding.pixel_range import UPRIGHT, DecodedPixels, blend_with_black, fill_range, to_grey, turn_upright
from service.errors import ErrorCode, FrameError

MAX_IMAGE_BYTES = 32 * 1024 * 1024
ORIENTATION = 274  # tag of EXIF and TIFF
# A PNG with an orientation has one of them: EXIF in its own chunk, as ImageMagick writes it, or in XMP.
PNG_ORIENTATION_CHUNKS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
PNG_DEPTH_POSITION = 24  # in the chunk IHDR, which comes first
# Pillow's names for 8- and 16-bit grey and colour, with and without alpha, and for palettes.
PNG_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16")


class StoredPixels(NamedTuple):
    """Pixels as a file stores them, and what its header says about them.

    pixels: (height, width), or with 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, of any type.
    alpha: (height, width), of the same type; None if it is in `pixels`, or if there is none.
    depth: bits of a sample. orientation: the tag of EXIF and TIFF.
    """

    pixels: np.ndarray
    depth: int = 16
    orientation: int = UPRIGHT
    notes: tuple[str, ...] = ()
    alpha: np.ndarray | None = None
    white_is_zero: bool = False


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Frame:
    """Return the frame in a picture file with a single picture. Colour becomes grey.

    The pixels are uint8 or uint16 and upright, and fill their range. Notes say what was repaired.

    Raises FrameError: 400 empty, damaged or truncated; 413 more than `max_pixels` pixels; 415 another file type;
    422 a picture that cannot be a frame (too small, several pages, ...).
    """
    pages = list_pages(data)
    if len(pages.pixels) > 1:
        raise unusable_error(ErrorCode.SEVERAL_PAGES, "it has several pages. Send one file for each page.")
    decoded = decode_picture(data, int(pages.pixels[0]), max_pixels)
    return Frame(decoded.pixels, notes=pages.notes + decoded.notes)


def list_pages(data: bytes) -> DecodedPixels:
    """Return the pages of a picture file as `tiff_file.list_pages` does; 0 alone for all formats but TIFF.

    Raises FrameError (400, 413, 415).
    """
    if check_format(data) is Format.TIFF:
        return tiff_file.list_pages(io.BytesIO(data))
    return DecodedPixels(np.zeros(1, int))


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

    page: one of `list_pages`; 0 for the first. Raises FrameError.
    """
    return _decode(io.BytesIO(data), check_format(data), page, max_pixels)


def decode_tiff_page(path: str, page: int, max_pixels: int = MAX_PIXELS) -> DecodedPixels:
    """Return a page of a TIFF file on the disk like `decode_picture`. Only the bytes of that page are read."""
    with open(path, "rb") as file:
        return _decode(file, Format.TIFF, page, max_pixels)


def _decode(file: IO[bytes], file_format: Format, page: int, max_pixels: int) -> DecodedPixels:
    if file_format in VIDEOS:
        reason = "it is a video. Send it to the service as a cine."
        raise unusable_error(ErrorCode.SEVERAL_FRAMES, reason)
    try:
        if file_format is Format.TIFF:
            stored = _read_tiff(file, page, max_pixels)
        else:
            stored = READERS[file_format](file.read(), max_pixels)
    except FrameError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels_error(max_pixels) from error
    except Exception as error:  # a hostile file makes decoders raise exceptions of many classes
        raise malformed_error() from error
    return _standardise(stored)


def _standardise(stored: StoredPixels) -> DecodedPixels:
    """Return grey, upright pixels that fill their range."""
    colours, alpha = stored.pixels, stored.alpha
    if colours.dtype not in (np.uint8, np.uint16):
        reason = f"its pixels are {colours.dtype}. Send 8- or 16-bit unsigned pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    if colours.ndim not in (2, 3) or (colours.ndim == 3 and colours.shape[2] not in (2, 3, 4)):
        reason = f"its pixels have the shape {colours.shape}. Send grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    if colours.ndim == 3 and colours.shape[2] in (2, 4):
        alpha = colours[..., -1]
        colours = colours[..., 0] if colours.shape[2] == 2 else colours[..., :3]
    colours, notes = fill_range(colours, stored.depth)
    grey = to_grey(colours)
    if stored.white_is_zero:
        grey = np.iinfo(grey.dtype).max - grey
    if alpha is not None:
        grey, alpha_notes = blend_with_black(grey, fill_range(alpha, stored.depth).pixels)
        notes += alpha_notes
    upright = turn_upright(np.ascontiguousarray(grey), stored.orientation)
    return DecodedPixels(upright.pixels, stored.notes + notes + upright.notes)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raise FrameError for a picture that has too many pixels or is too small to be a frame."""
    if height * width > max_pixels:
        raise too_many_pixels_error(max_pixels)
    if min(height, width) < MIN_SIDE_PX:
        reason = f"it has {width}x{height} pixels. Send at least {MIN_SIDE_PX}x{MIN_SIDE_PX} pixels."
        raise unusable_error(ErrorCode.TOO_SMALL, reason)


def _read_png(data: bytes, max_pixels: int) -> StoredPixels:
    header = Image.open(io.BytesIO(data), formats=("PNG",))
    check_size(header.height, header.width, max_pixels)
    if getattr(header, "is_animated", False):
        reason = "it is an animated PNG. Send one file for each frame, or a video as MP4 or AVI."
        raise unusable_error(ErrorCode.SEVERAL_PAGES, reason)
    if header.mode not in PNG_MODES:
        reason = f"its pixels have the type {header.mode}. Send 8- or 16-bit grey or RGB pixels."
        raise unusable_error(ErrorCode.PIXEL_TYPE, reason)
    pixels = _first_success(data, _decode_with_opencv, imagecodecs.png_decode)
    # Pillow decodes the whole PNG to look for an orientation behind the pixels.
    may_be_turned = any(name in data for name in PNG_ORIENTATION_CHUNKS)
    orientation = _read_orientation(header) if may_be_turned else UPRIGHT
    return StoredPixels(pixels, orientation=orientation, alpha=_transparent_grey(data, header, pixels))


def _transparent_grey(data: bytes, header: Image.Image, pixels: np.ndarray) -> np.ndarray | None:
    """Return the alpha of a grey PNG with a transparent grey value (chunk tRNS), which the decoders pass over."""
    transparent = header.info.get("transparency")
    if not isinstance(transparent, int) or pixels.ndim != 2:
        return None
    white = np.iinfo(pixels.dtype).max
    scale = white // ((1 << data[PNG_DEPTH_POSITION]) - 1)  # the decoders spread 2 and 4 bits over 8
    return np.where(pixels == transparent * scale, 0, white).astype(pixels.dtype)


def _read_jpeg(data: bytes, max_pixels: int) -> StoredPixels:
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
    with native_messages() as messages:
        pixels = _first_success(data, *(decoders if header.precision == 8 else decoders[1:]))
        notes = notes_of_messages(messages())
    if pixels.shape[:2] != (header.rows, header.columns):
        raise malformed_error()
    orientation = UPRIGHT
    try:
        exif = Image.open(io.BytesIO(data), formats=("JPEG",))
        orientation = _read_orientation(exif)
        if getattr(exif, "n_frames", 1) > 1:
            notes += ("the file has further pictures, for example a preview: the first one was read",)
    except Exception:  # Pillow does not open every JPEG that the others decode
        pass
    return StoredPixels(pixels, _stored_depth(header.precision), orientation, notes)


def _read_jpeg_xl(data: bytes, max_pixels: int) -> StoredPixels:
    pixels = imagecodecs.jpegxl_decode(data)
    if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise unusable_error(ErrorCode.SEVERAL_PAGES, "it is an animated JPEG XL. Send one file for each frame.")
    check_size(pixels.shape[0], pixels.shape[1], max_pixels)
    return StoredPixels(pixels)


def _read_jpeg_2000(data: bytes, max_pixels: int) -> StoredPixels:
    header = read_jpeg_2000_header(data)
    check_size(header.rows, header.columns, max_pixels)
    pixels = _first_success(complete_jpeg_2000(data), imagecodecs.jpeg2k_decode, imagecodecs.htj2k_decode)
    return StoredPixels(pixels, _stored_depth(header.bits))


def _read_tiff(file: IO[bytes], page: int, max_pixels: int) -> StoredPixels:
    header = tiff_file.read_page_header(file, page)
    check_size(header.height, header.width, max_pixels)
    if header.unreadable:
        raise unusable_error(
            ErrorCode.PIXEL_TYPE, f"its pixels are {header.unreadable}. Send 8- or 16-bit grey or RGB."
        )
    pixels, alpha = tiff_file.read_page(file, page)
    depth = _stored_depth(header.depth)
    return StoredPixels(pixels, depth, header.orientation, alpha=alpha, white_is_zero=header.white_is_zero)


READERS: dict[Format, Callable[[bytes, int], StoredPixels]] = {
    Format.PNG: _read_png,
    Format.JPEG: _read_jpeg,
    Format.JPEG_LS: _read_jpeg,
    Format.JPEG_XL: _read_jpeg_xl,
    Format.JPEG_2000: _read_jpeg_2000,
}
assert {*READERS, Format.TIFF} == set(PICTURES)


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
    return precision if precision not in (8, 16) else 16


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
