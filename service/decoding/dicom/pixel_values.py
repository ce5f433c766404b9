"""Turn decoded DICOM pixels into the grey values that a viewer shows."""

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_voi, apply_voi_lut


def to_grey(pixels: np.ndarray, interpretation: str, header: Dataset) -> np.ndarray:
    """Return uint8 or uint16 (rows, columns), from black 0 to white 255 or 65535.

    pixels: (rows, columns) or (rows, columns, 3), decoded, colour as RGB. interpretation: Photometric Interpretation.
    header: read for palette, window, lookup table and stored bits. Raises nearly anything over a damaged header.
    """
    if interpretation == "PALETTE COLOR":
        pixels = _apply_palette(pixels, header)
    if pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = _apply_window(pixels, header)
    if interpretation == "MONOCHROME1":  # its lowest value is white (PS3.3 C.7.6.3.1.2)
        grey = np.iinfo(grey.dtype).max - grey
    return np.ascontiguousarray(grey)


def _apply_palette(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Return uint8 (rows, columns, 3), RGB. Only the upper 8 bits of a 16-bit palette are kept."""
    colours = apply_color_lut(pixels, header)
    return (colours // 257).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _apply_window(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Return uint8 or uint16 of the same shape: windowed, and stretched from the stored bits to the full range."""
    bits = int(header.BitsStored)
    lowest = -(2 ** (bits - 1)) if pixels.dtype.kind == "i" else 0
    if header.get("VOILUTSequence"):  # its output is unsigned, and has a depth of its own
        pixels, lowest = apply_voi(pixels, header), 0
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    else:  # a window, if there is one, is spread over the range of the stored pixels
        pixels = apply_voi_lut(pixels, header)
    if pixels.dtype == np.uint8 and bits == 8:
        return pixels
    highest = 255 if bits <= 8 else 65535
    stretched = (pixels.astype(np.float64) - lowest) * (highest / (2**bits - 1))
    return stretched.round().clip(0, highest).astype(np.uint8 if bits <= 8 else np.uint16)
