"""Read the pages of a TIFF file."""

import os
import struct
from typing import IO, NamedTuple

import numpy as np
import tifffile

from service.decoding.frame import MAX_FRAMES
from service.decoding.pixel_range import UPRIGHT, DecodedPixels, apply_palette
from service.errors import ErrorCode, FrameError

REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType: a preview, or a transparency mask
PHOTOMETRIC, EXTRASAMPLE = tifffile.PHOTOMETRIC, tifffile.EXTRASAMPLE
GREY_OR_COLOUR = tuple(PHOTOMETRIC[name] for name in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "YCBCR"))
JPEG_COMPRESSIONS = (6, 7)  # tifffile returns RGB for their YCbCr
DEPTHS_BELOW_8 = (2, 4)
BIG_TIFF = 43


class DirectoryLayout(NamedTuple):
    """Formats of the number of tags and of an offset, as `struct` names them, and the bytes of a tag."""

    tag_count: str
    offset: str
    tag_bytes: int


CLASSIC_LAYOUT, BIG_LAYOUT = DirectoryLayout("H", "L", 12), DirectoryLayout("Q", "Q", 20)


class PageHeader(NamedTuple):
    """What a page declares. unreadable: what its pixels are, if they are of a kind that is not read."""

    height: int
    width: int
    depth: int
    orientation: int
    white_is_zero: bool
    unreadable: str


class PagePixels(NamedTuple):
    """pixels: (height, width) or (height, width, 3), RGB. alpha: (height, width); None without transparent parts."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None


def list_pages(file: IO[bytes]) -> DecodedPixels:
    """Return the pages that are pictures of their own, no previews and no masks, and a note if pages are missing.

    A page is the offset of its image file directory. There is at least one.

    Raises FrameError 400 for a damaged file, 413 for more than MAX_FRAMES pages.
    """
    try:
        directories = _walk_directories(file)
        pages = directories.pixels.tolist()
        with _open_tiff(file) as tiff:
            pictures = [page for page in pages if not int(_open_page(tiff, page).subfiletype) & REDUCED_OR_MASK]
        return DecodedPixels(np.array(pictures or [pages[0]]), directories.notes)
    except FrameError:
        raise
    except Exception as error:  # tifffile raises exceptions of many classes
        raise FrameError(ErrorCode.MALFORMED, "The TIFF file is damaged or truncated: it cannot be decoded.") from error


def _walk_directories(file: IO[bytes]) -> DecodedPixels:
    """Return the offsets of all image file directories (TIFF 6.0, section 2), and a note if their chain is broken."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    layout = BIG_LAYOUT if struct.unpack_from(f"{order}H", head, 2) == (BIG_TIFF,) else CLASSIC_LAYOUT
    count_format, offset_format = struct.Struct(order + layout.tag_count), struct.Struct(order + layout.offset)
    (offset,) = offset_format.unpack_from(head, offset_format.size)
    offsets: dict[int, None] = {}
    while offset and offset not in offsets:
        if len(offsets) >= MAX_FRAMES:
            message = f"The TIFF file has more than {MAX_FRAMES} pages. Send fewer pages."
            raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
        try:
            file.seek(offset)
            (tag_count,) = count_format.unpack(file.read(count_format.size))
            file.seek(tag_count * layout.tag_bytes, os.SEEK_CUR)
            (next_offset,) = offset_format.unpack(file.read(offset_format.size))
        except (struct.error, OverflowError, OSError):  # outside the file
            break
        offsets[offset], offset = None, next_offset
    notes = (f"the TIFF file is damaged or truncated: pages after page {len(offsets)} are missing",)
    return DecodedPixels(np.array(list(offsets)), notes if offset else ())


def _open_tiff(file: IO[bytes]) -> tifffile.TiffFile:
    file.seek(0)  # tifffile takes the position for the start of the file
    return tifffile.TiffFile(file)


def _open_page(tiff: tifffile.TiffFile, page: int) -> tifffile.TiffPage:
    """Return a page; 0 means the first. tifffile's own list of pages would read all directories before a page."""
    if page == 0:
        return tiff.pages.first
    tiff.filehandle.seek(page)
    return tifffile.TiffPage(tiff, 0)


def read_page_header(file: IO[bytes], page: int) -> PageHeader:
    """Return the header of a page, as `list_pages` gives it. Raises exceptions of many classes for a damaged file."""
    with _open_tiff(file) as tiff:
        header = _open_page(tiff, page)
        tag = header.tags.get("Orientation")
        return PageHeader(
            header.imagelength,
            header.imagewidth,
            int(np.max(header.bitspersample)),
            int(tag.value) if tag else UPRIGHT,
            header.photometric == PHOTOMETRIC.MINISWHITE,
            _unreadable_kind(header),
        )


def _unreadable_kind(page: tifffile.TiffPage) -> str:
    if page.photometric not in GREY_OR_COLOUR:
        return f"of the kind {getattr(page.photometric, 'name', page.photometric)}"
    if page.dtype is None or page.dtype not in (np.uint8, np.uint16):
        return str(page.dtype)
    if np.min(page.bitspersample) != np.max(page.bitspersample):
        return f"of {page.bitspersample} bits"
    depth = int(np.max(page.bitspersample))
    is_readable = depth >= 8 or (depth in DEPTHS_BELOW_8 and page.photometric != PHOTOMETRIC.RGB)
    return "" if is_readable else f"{depth}-bit"


def read_page(file: IO[bytes], page: int) -> PagePixels:
    """Return the pixels of a page, as `list_pages` gives it. Raises exceptions of many classes for a damaged file."""
    with _open_tiff(file) as tiff:
        header = _open_page(tiff, page)
        ends = (start + count for start, count in zip(header.dataoffsets, header.databytecounts, strict=True))
        if max(ends, default=0) > tiff.filehandle.size:
            raise ValueError("the file is truncated")
        pixels = header.asarray()
        if header.axes.startswith("S"):  # one plane for each colour
            pixels = np.moveaxis(pixels, 0, -1)
        return _separate_alpha(header, pixels)


def _separate_alpha(header: tifffile.TiffPage, pixels: np.ndarray) -> PagePixels:
    """Return the colours of a page, and its alpha. pixels: (height, width[, channels])."""
    alpha = None
    if header.extrasamples and pixels.ndim == 3:
        # Colours with associated alpha are those over black already. Unspecified channels say nothing about colours.
        if header.extrasamples[0] == EXTRASAMPLE.UNASSALPHA:
            alpha = pixels[..., -len(header.extrasamples)]
        pixels = pixels[..., : -len(header.extrasamples)]
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if header.photometric == PHOTOMETRIC.PALETTE and header.colormap is not None:
        pixels = apply_palette(pixels, header.colormap.T)
    if header.photometric == PHOTOMETRIC.YCBCR and header.compression not in JPEG_COMPRESSIONS and pixels.ndim == 3:
        pixels = pixels[..., 0]  # Y is the grey
    return PagePixels(pixels, alpha)
