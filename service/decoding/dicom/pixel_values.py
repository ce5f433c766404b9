"""Turn decoded DICOM pixels into the grey values that a viewer shows."""

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_rescale, apply_voi, apply_voi_lut

from service.decoding.pixel_range import DecodedPixels, used_depth

PALETTE_DATA = "RedPaletteColorLookupTableData"


def to_grey_frame(pixels: np.ndarray, interpretation: str, header: Dataset) -> DecodedPixels:
    """Return uint8 or uint16 (rows, columns), from black 0 to white 255 or 65535, and notes on repairs.

    pixels: (rows, columns) or (rows, columns, 3), decoded, colour as RGB. interpretation: Photometric Interpretation.
    header: read for palette, window, lookup table and stored bits. Raises exceptions of many classes over a damaged
    palette.
    """
    notes: tuple[str, ...] = ()
    if interpretation == "PALETTE COLOR":
        pixels, notes = _apply_palette(pixels, header)
    if pixels.ndim == 3:
        return DecodedPixels(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), notes)
    grey, notes = _apply_window(pixels, header)
    if interpretation == "MONOCHROME1":  # its lowest value is white (PS3.3 C.7.6.3.1.2)
        grey = np.iinfo(grey.dtype).max - grey
    return DecodedPixels(np.ascontiguousarray(grey), notes)


def _apply_palette(pixels: np.ndarray, header: Dataset) -> DecodedPixels:
    """Return uint8 (rows, columns, 3), RGB. Only the upper 8 bits of a 16-bit palette are kept."""
    colours = np.ascontiguousarray(apply_color_lut(pixels, header)[..., :3])
    if colours.dtype == np.uint8:
        return DecodedPixels(colours)
    if _has_small_entries(header):  # 8-bit entries in words of 16 bits (PS3.3 C.7.6.3.1.5, note)
        return DecodedPixels(colours.astype(np.uint8), ("the palette has 8-bit entries in 16-bit words",))
    return DecodedPixels((colours // 257).astype(np.uint8))


def _has_small_entries(header: Dataset) -> bool:
    """Return whether no entry of the palette needs more than 8 bits."""
    if PALETTE_DATA not in header:  # a segmented palette
        return False
    tables = (header.get(PALETTE_DATA.replace("Red", colour), b"") for colour in ("Red", "Green", "Blue"))
    return all(np.frombuffer(table, "<u2").max(initial=0) < 256 for table in tables)


def _apply_window(pixels: np.ndarray, header: Dataset) -> DecodedPixels:
    """Return uint8 or uint16 of the same shape: windowed, and stretched from the stored bits to the full range."""
    try:
        windowed, (lowest, highest), bits = _window(pixels, header)
        notes: tuple[str, ...] = ()
    except Exception:  # elements for the display are optional, and may hold values of any type
        windowed, (lowest, highest), bits = pixels, _stored_range(pixels, header), int(header.BitsStored)
        notes = ("the window in the header is malformed, or leaves nothing to see: it was ignored",)
    if windowed is pixels and pixels.dtype == np.uint16 and (depth := used_depth(pixels)) < bits and pixels.any():
        notes += (f"the {bits}-bit pixels use {depth} bits: they were read as {depth}-bit pixels",)
        lowest, highest, bits = 0, 2**depth - 1, max(depth, 9)
    if windowed.dtype == np.uint8 and bits == 8:
        return DecodedPixels(windowed, notes)
    white = 255 if bits <= 8 else 65535
    stretched = (windowed.astype(np.float64) - lowest) * (white / (highest - lowest))
    return DecodedPixels(stretched.round().clip(0, white).astype(np.uint8 if bits <= 8 else np.uint16), notes)


def _window(pixels: np.ndarray, header: Dataset) -> tuple[np.ndarray, tuple[float, float], int]:
    """Return the windowed pixels, the range that they are spread over, and its bits.

    Without a window, the pixels are returned as they are. Raises exceptions of many classes over a malformed window.
    """
    if header.get("VOILUTSequence"):  # its output is unsigned, and has a depth of its own
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(pixels, header), (0, 2**bits - 1), bits
    bits = int(header.BitsStored)
    lowest, highest = _stored_range(pixels, header)
    if header.get("WindowWidth") is None or header.get("WindowCenter") is None:
        return pixels, (lowest, highest), bits
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    rescaled = apply_rescale(pixels, header) if (slope, intercept) != (1, 0) else pixels
    lowest, highest = lowest * slope + intercept, highest * slope + intercept
    windowed = apply_voi_lut(rescaled, header)
    if not np.isfinite(windowed).all() or (windowed.min() == windowed.max() and pixels.min() < pixels.max()):
        raise ValueError("the window leaves nothing to see")
    return windowed, (lowest, highest), bits


def _stored_range(pixels: np.ndarray, header: Dataset) -> tuple[float, float]:
    bits = int(header.BitsStored)
    lowest = -(2 ** (bits - 1)) if pixels.dtype.kind == "i" else 0
    return lowest, lowest + 2**bits - 1
