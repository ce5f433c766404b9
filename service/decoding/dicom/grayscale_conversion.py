"""Turn decoded DICOM pixels into the grey values that a viewer shows."""

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_rescale, apply_voi, apply_voi_lut

from service.decoding.dicom.bits_stored import StoredValues, read_stored_values
from service.decoding.pixel_range import DecodedPixels, fill_range, to_grey, used_depth
from service.errors import ErrorCode, FrameError

PALETTES = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
# What the display of grey values depends on, beside their bits and sign.
DISPLAY_ELEMENTS = (
    "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
STRIP_ROWS = 64  # of a look-up: numpy makes 64-bit integers of indices
MALFORMED_WINDOW = "the window in the header is malformed, or leaves nothing to see: it was ignored"


def to_grey_frame(pixels: np.ndarray, interpretation: str, header: Dataset) -> DecodedPixels:
    """Return uint8 or uint16 (rows, columns), from black 0 to white 255 or 65535, and notes on repairs.

    pixels: (rows, columns) or (rows, columns, 3), decoded, colour as RGB, with the bits beside those of the value as
    the file has them. interpretation: Photometric Interpretation. header: read for palette, window, lookup table and
    stored bits. Raises FrameError 400 for a palette that cannot be used.
    """
    if pixels.ndim == 3:
        colours = fill_range(pixels.view(f"u{pixels.itemsize}"), int(header.BitsStored))
        return DecodedPixels(to_grey(colours.pixels), colours.notes)
    stored = read_stored_values(pixels, header)
    if interpretation == "PALETTE COLOR":
        colours = _apply_palette(stored.pixels.view(f"u{pixels.itemsize}"), header)
        return DecodedPixels(to_grey(colours.pixels), stored.notes + colours.notes)
    grey, notes = _apply_window(stored, header)
    if interpretation == "MONOCHROME1":  # its lowest value is white (PS3.3 C.7.6.3.1.2)
        grey = np.iinfo(grey.dtype).max - grey
    return DecodedPixels(np.ascontiguousarray(grey), stored.notes + notes)


def _apply_palette(indices: np.ndarray, header: Dataset) -> DecodedPixels:
    """Return uint8 (rows, columns, 3), RGB. Only the upper 8 bits of a palette are kept."""
    try:
        colours = np.ascontiguousarray(apply_color_lut(indices, header)[..., :3])
        depth = _palette_depth(header)
    except Exception as error:  # pydicom raises exceptions of many classes over a damaged palette
        message = "The palette of the DICOM file (0028,1101 to 0028,1203) is missing or damaged."
        raise FrameError(ErrorCode.MALFORMED, message) from error
    if colours.dtype == np.uint8:
        return DecodedPixels(colours)
    # Some writers store entries of 8 bits in words of 16 (PS3.3 C.7.6.3.1.5, note).
    notes = () if depth == 16 else (f"the palette has {depth}-bit entries in 16-bit words",)
    return DecodedPixels((colours >> (depth - 8)).astype(np.uint8), notes)


def _palette_depth(header: Dataset) -> int:
    """Return the bits that the entries of the palette use, 8 to 16."""
    if f"{PALETTES[0]}Data" not in header:  # a segmented palette
        return 16
    return used_depth(max(int(np.frombuffer(header[f"{name}Data"].value, "<u2").max(initial=0)) for name in PALETTES))


def _apply_window(stored: StoredValues, header: Dataset) -> DecodedPixels:
    """Return uint8 or uint16 of the same shape: windowed, and stretched from the stored bits to the full range.

    A table of all values is windowed, not the pixels: arrays of large frames as 64-bit numbers would fill the memory.
    """
    pixels, bits, _ = stored
    unsigned = pixels.view(f"u{pixels.itemsize}")
    values = np.arange(2 ** (8 * pixels.itemsize), dtype=unsigned.dtype).view(pixels.dtype)
    display = _display_elements(stored, header)
    notes: tuple[str, ...] = ()
    try:
        windowed, (lowest, highest), bits = _window(values, _is_used(unsigned), display)
    except Exception:  # elements for the display are optional, and may hold values of any type
        windowed, (lowest, highest), notes = values, _range(values, bits), (MALFORMED_WINDOW,)
    if windowed is values and pixels.itemsize == 2 and pixels.any():
        used = _used_bits(pixels)
        if used < bits:
            notes += (f"the {bits}-bit pixels use {used} bits: they were read as {used}-bit pixels",)
            (lowest, highest), bits = _range(values, used), max(used, 9)
    if windowed.dtype == np.uint8 and bits == 8:
        table = windowed
    else:
        white = 255 if bits <= 8 else 65535
        stretched = (windowed.astype(np.float64) - lowest) * (white / (highest - lowest))
        table = stretched.round().clip(0, white).astype(np.uint8 if bits <= 8 else np.uint16)
    if table.dtype == pixels.dtype and np.array_equal(table, values):
        return DecodedPixels(pixels, notes)
    return DecodedPixels(_look_up(table, unsigned), notes)


def _look_up(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return `table[indices]`. indices: unsigned integers (rows, columns), all below len(table)."""
    looked_up = np.empty(indices.shape, table.dtype)
    for start in range(0, len(indices), STRIP_ROWS):
        looked_up[start : start + STRIP_ROWS] = table[indices[start : start + STRIP_ROWS]]
    return looked_up


def _is_used(unsigned: np.ndarray) -> np.ndarray:
    """Return for each value of the type whether a pixel has it, bool (256,) or (65536,)."""
    count = 2 ** (8 * unsigned.itemsize)
    return cv2.calcHist([unsigned], [0], None, [count], [0, count]).ravel() > 0


def _used_bits(pixels: np.ndarray) -> int:
    """Return the bits that the values use, the sign among them."""
    highest, lowest = int(pixels.max()), int(pixels.min())
    return used_depth(highest) if pixels.dtype.kind == "u" else used_depth(max(highest, ~lowest), sign_bits=1)


def _display_elements(stored: StoredValues, header: Dataset) -> Dataset:
    """Return the elements that pydicom reads to display grey values, with the true bits and sign."""
    display = Dataset()
    for keyword in DISPLAY_ELEMENTS:
        if keyword in header:
            display[keyword] = header[keyword]
    display.BitsStored = stored.bits
    display.PixelRepresentation = int(stored.pixels.dtype.kind == "i")
    display.PhotometricInterpretation = "MONOCHROME2"
    return display


def _window(values: np.ndarray, is_used: np.ndarray, display: Dataset) -> tuple[np.ndarray, tuple[float, float], int]:
    """Return the windowed values, the range that they are spread over, and its bits.

    Without a window, the values are returned as they are. Raises exceptions of many classes over a malformed window.

    is_used: for each value, whether a pixel has it.
    """
    if display.get("VOILUTSequence"):  # its output is unsigned, and has a depth of its own
        bits = int(display.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(values, display), (0, 2**bits - 1), bits
    bits = int(display.BitsStored)
    lowest, highest = _range(values, bits)
    width, centre = display.get("WindowWidth"), display.get("WindowCenter")
    if width is None and centre is None:
        return values, (lowest, highest), bits
    if width is None or centre is None:
        raise ValueError("a half of the window is missing")
    slope, intercept = float(display.get("RescaleSlope") or 1), float(display.get("RescaleIntercept") or 0)
    rescaled = apply_rescale(values, display) if (slope, intercept) != (1, 0) else values
    lowest, highest = lowest * slope + intercept, highest * slope + intercept
    windowed = apply_voi_lut(rescaled, display)
    used = windowed[is_used]
    if not np.isfinite(used).all() or (used.min() == used.max() and is_used.sum() > 1):
        raise ValueError("the window leaves nothing to see")
    return windowed, (lowest, highest), bits


def _range(values: np.ndarray, bits: int) -> tuple[float, float]:
    """Return the lowest and the highest value of `bits` bits, with a sign if the values have one."""
    lowest = -(2 ** (bits - 1)) if values.dtype.kind == "i" else 0
    return lowest, lowest + 2**bits - 1
