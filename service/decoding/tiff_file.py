"""Read the pages of a TIFF file."""

import io
import itertools
from typing import NamedTuple, cast

import numpy as np
import tifffile

from service.decoding.frame import MAX_FRAMES
from service.decoding.pixel_range import UPRIGHT, apply_palette
from service.errors import ErrorCode, FrameError

REDUCED_OR_MASK = 1 | 4  # bits of NewSubfileType: a preview, or a transparency mask
GREY_OR_COLOUR = tuple(tifffile.PHOTOMETRIC[name] for name in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "YCBCR"))


class PageHeader(NamedTuple):
    """What a page declares. unreadable: what its pixels are, if they are of a kind that is not read."""

    height: int
    width: int
    depth: int
    orientation: int
    unreadable: str


def list_pages(data: bytes) -> list[int]:
    """Return the numbers of the pages that are pictures of their own: no previews, no masks. Never empty.

    Raises FrameError 400 for a damaged file, 413 for more than MAX_FRAMES pages.
    """
    pages = []
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            for number in itertools.count():
                try:
                    page = cast(tifffile.TiffPage, file.pages.get(number, aspage=True))
                except IndexError:
                    break
                if number >= MAX_FRAMES:
                    message = f"The TIFF file has more than {MAX_FRAMES} pages. Send fewer pages."
                    raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
                if not int(page.subfiletype) & REDUCED_OR_MASK:
                    pages.append(number)
    except FrameError:
        raise
    except Exception as error:  # tifffile raises exceptions of many classes
        raise FrameError(ErrorCode.MALFORMED, "The TIFF file is damaged or truncated: it cannot be decoded.") from error
    return pages or [0]


def page_numbers(data: bytes) -> np.ndarray:
    """Return `list_pages` as an array, for the decoder process."""
    return np.array(list_pages(data))


def read_page_header(data: bytes, number: int) -> PageHeader:
    """Return the header of a page. Raises exceptions of many classes for a damaged file."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = cast(tifffile.TiffPage, file.pages.get(number, aspage=True))
        tag = page.tags.get("Orientation")
        return PageHeader(
            page.imagelength,
            page.imagewidth,
            int(np.max(page.bitspersample)),
            int(tag.value) if tag else UPRIGHT,
            _unreadable_kind(page),
        )


def _unreadable_kind(page: tifffile.TiffPage) -> str:
    if page.photometric not in GREY_OR_COLOUR:
        return f"of the kind {getattr(page.photometric, 'name', page.photometric)}"
    if page.dtype is None or page.dtype not in (np.uint8, np.uint16):
        return str(page.dtype)
    return "1-bit" if np.max(page.bitspersample) == 1 else ""


def read_page(data: bytes, number: int) -> np.ndarray:
    """Return (height, width), or (height, width, channels) as RGB or RGBA; black is 0.

    Raises exceptions of many classes for a damaged file.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = cast(tifffile.TiffPage, file.pages.get(number, aspage=True))
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > len(data):
            raise ValueError("the file is truncated")
        pixels = page.asarray()
        if page.axes.startswith("S"):  # one plane for each colour
            pixels = np.moveaxis(pixels, 0, -1)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            return apply_palette(pixels, page.colormap.T)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            highest = (1 << int(np.max(page.bitspersample))) - 1
            return (highest - pixels).astype(pixels.dtype)
        return pixels
