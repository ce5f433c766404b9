"""Bring the pixels of a picture to one range, orientation and meaning, with a note on each repair."""

from typing import NamedTuple

import cv2
import numpy as np

WHITE_SHARE = 15 / 16  # of the largest value; a picture with brighter pixels reaches its white
UPRIGHT = 1  # TIFF 6.0 and EXIF 2.3, tag Orientation
STRIP_ROWS = 64  # a large picture is converted by strips: temporary arrays then stay small
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


def used_depth(highest: int, sign_bits: int = 0) -> int:
    """Return the bits of pixels with this highest value, 8 to 16.

    Devices use an even number. An odd one needs a value close to the largest one that it holds: otherwise the picture
    is a dark one of the next even number.

    sign_bits: 1 for values with a sign.
    """
    bits = max(8, highest.bit_length() + sign_bits)
    is_white_reached = highest >= WHITE_SHARE * (2 ** (bits - sign_bits) - 1)
    return bits if bits % 2 == 0 or is_white_reached else bits + 1


def fill_range(pixels: np.ndarray, depth: int = 16) -> DecodedPixels:
    """Return pixels that fill the 8 bits of uint8, or the 16 bits of uint16.

    Many devices store 10 or 12 bits in 16. No file says so reliably, therefore the largest value decides.

    pixels: uint8 or uint16 of any shape. depth: the bits that the file declares.
    """
    if pixels.dtype == np.uint8:
        return DecodedPixels(pixels if depth >= 8 else _spread(pixels.astype(np.uint16), depth, 8).astype(np.uint8))
    used = used_depth(int(pixels.max(initial=0)))
    notes: tuple[str, ...] = ()
    if used > depth or (used < depth == 16 and pixels.any()):
        notes = (f"the {depth}-bit pixels use {used} bits: they were read as {used}-bit pixels",)
        depth = used
    return DecodedPixels(pixels if depth == 16 else _spread(pixels, depth, 16), notes)


def _spread(pixels: np.ndarray, depth: int, target_depth: int) -> np.ndarray:
    """Return uint16 with the lowest `depth` bits of uint16 spread over `target_depth` bits. White stays white."""
    pixels = np.minimum(pixels, (1 << depth) - 1)
    spread = np.zeros_like(pixels)
    for shift in range(target_depth - depth, -depth, -depth):  # the bits are repeated below themselves
        spread |= pixels << shift if shift >= 0 else pixels >> -shift
    return spread


def turn_upright(pixels: np.ndarray, orientation: int) -> DecodedPixels:
    """Return the pixels as a viewer shows them.

    orientation: the tag of EXIF and TIFF; unknown values change nothing.
    """
    if orientation not in ROTATIONS:
        return DecodedPixels(pixels)
    note = f"the file has Orientation {orientation}: the picture was turned upright, as viewers show it"
    return DecodedPixels(np.ascontiguousarray(ROTATIONS[orientation](pixels)), (note,))


def blend_with_black(grey: np.ndarray, alpha: np.ndarray) -> DecodedPixels:
    """Return a picture over a black background. grey, alpha: (height, width), both of one type.

    A constant alpha is no transparency: many programs leave that channel unused, at 0 or at its maximum.
    """
    if alpha.min() == alpha.max():
        return DecodedPixels(grey)
    blended = grey * (alpha.astype(np.float32) / np.iinfo(alpha.dtype).max)
    note = "the picture has transparent parts: they were read as black"
    return DecodedPixels(blended.round().astype(grey.dtype), (note,))


def to_grey(colours: np.ndarray) -> np.ndarray:
    """Return (height, width). colours: (height, width), or (height, width, 3), RGB."""
    # Three equal channels give exactly that grey.
    return colours if colours.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)


def apply_palette(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return RGB, uint8 (height, width, 3).

    indices: (height, width). palette: (entries, 3), of 8 to 16 bits in integers of any size: some writers store 8-bit
    entries in 16-bit words (PS3.3 C.7.6.3.1.5), so the largest entry decides.
    """
    colours = (palette >> (used_depth(int(palette.max(initial=0))) - 8)).astype(np.uint8)
    return colours[np.minimum(indices, len(colours) - 1)]
