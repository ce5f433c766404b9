"""Bring the pixels of a picture to one range, orientation and meaning, with a note on each repair."""

from typing import NamedTuple

import cv2
import numpy as np

DEPTHS = (8, 10, 12, 14, 16)  # bits that devices use
UPRIGHT = 1  # TIFF 6.0 and EXIF 2.3, tag Orientation
# What turns the stored pixels upright, by Orientation.
ROTATIONS = {
    2: lambda pixels: np.fliplr(pixels),
    3: lambda pixels: np.rot90(pixels, 2),
    4: lambda pixels: np.flipud(pixels),
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(np.rot90(pixels, 2), 0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


class DecodedPixels(NamedTuple):
    """Pixels, and sentences about what was repaired or assumed, for the reader of the answer."""

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def used_depth(pixels: np.ndarray) -> int:
    """Return the smallest of DEPTHS that holds all values of uint16 pixels."""
    bits = int(pixels.max(initial=0)).bit_length()
    return next(depth for depth in DEPTHS if bits <= depth)


def spread_to_16_bits(pixels: np.ndarray, depth: int = 16) -> DecodedPixels:
    """Return pixels that fill the 16 bits of uint16.

    Many devices store 10 or 12 bits in 16. No file says so reliably, therefore the largest value decides.

    pixels: uint8, which stay as they are, or uint16 of any shape. depth: the bits that the file declares.
    """
    if pixels.dtype != np.uint16:
        return DecodedPixels(pixels)
    if depth == 16:
        depth = used_depth(pixels)
        if depth == 16 or not pixels.any():
            return DecodedPixels(pixels)
        notes: tuple[str, ...] = (f"the 16-bit pixels use {depth} bits: they were read as {depth}-bit pixels",)
    else:
        notes = ()
    # The highest bits are repeated below the lowest, so white stays white.
    pixels = np.minimum(pixels, (1 << depth) - 1)
    spread = pixels << (16 - depth)
    spread |= pixels >> (2 * depth - 16)
    return DecodedPixels(spread, notes)


def turn_upright(pixels: np.ndarray, orientation: int) -> DecodedPixels:
    """Return the pixels as a viewer shows them.

    orientation: the tag of EXIF and TIFF; unknown values change nothing.
    """
    if orientation not in ROTATIONS:
        return DecodedPixels(pixels)
    note = f"the file has Orientation {orientation}: the picture was turned upright, as viewers show it"
    return DecodedPixels(np.ascontiguousarray(ROTATIONS[orientation](pixels)), (note,))


def blend_with_black(colours: np.ndarray, alpha: np.ndarray) -> DecodedPixels:
    """Return colours over a black background. colours: (height, width[, 3]); alpha: (height, width), both of one type.

    A constant alpha is no transparency: many programs leave that channel unused, at 0 or at its maximum.
    """
    if alpha.min() == alpha.max():
        return DecodedPixels(colours)
    highest = np.iinfo(colours.dtype).max
    share = alpha.astype(np.float32) / highest
    blended = colours * (share[..., np.newaxis] if colours.ndim == 3 else share)
    note = "the picture has transparent parts: they were read as black"
    return DecodedPixels(blended.round().astype(colours.dtype), (note,))


def to_grey(pixels: np.ndarray) -> DecodedPixels:
    """Return (height, width), grey. pixels: (height, width), or with 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels."""
    notes: tuple[str, ...] = ()
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        colours = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        pixels, notes = blend_with_black(np.ascontiguousarray(colours), pixels[..., -1])
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # three equal channels give exactly that grey
    return DecodedPixels(pixels, notes)


def apply_palette(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return RGB, uint8 (height, width, 3).

    indices: (height, width). palette: (entries, 3), of 8 or 16 bits in integers of any size: some writers store 8-bit
    entries in 16-bit words (PS3.3 C.7.6.3.1.5), so the largest entry decides.
    """
    depth = 8 if palette.max(initial=0) < 256 else 16
    colours = (palette if depth == 8 else palette >> 8).astype(np.uint8)
    return colours[np.minimum(indices, len(colours) - 1)]
