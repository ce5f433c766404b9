"""The values of grey pixels, where the header may be wrong about their bits and their sign."""

from typing import NamedTuple

import cv2
import numpy as np
from pydicom import Dataset

from service.decoding.pixel_range import used_depth

OVERLAY_BIT_POSITION, OVERLAY_GROUPS = 0x0102, range(0x6000, 0x6020, 2)
# How much rougher a picture with a sign is than the same one without, if the sign is an error of the header.
ROUGHER = 1.5


class StoredValues(NamedTuple):
    """pixels: (rows, columns), uint8, uint16, int8 or int16, with `bits` bits. notes: what the header got wrong."""

    pixels: np.ndarray
    bits: int
    notes: tuple[str, ...] = ()


def read_stored_values(pixels: np.ndarray, header: Dataset) -> StoredValues:
    """Return the values that the bits of grey pixels hold (PS3.5 8.1.1).

    The pixels decide where they disprove Bits Stored, High Bit or Pixel Representation.

    pixels: (rows, columns) of 8 or 16 bits, with the bits beside those of the value as the file has them.
    """
    allocated = 8 * pixels.itemsize
    bits = min(int(header.BitsStored), allocated)
    unsigned = _align(pixels.view(f"u{pixels.itemsize}"), bits, header)
    if pixels.dtype.kind == "u":
        return _without_unused_bits(unsigned, bits, header)
    signed = _extend_sign(unsigned, bits)
    if not np.array_equal(signed.view(unsigned.dtype), unsigned) and int(unsigned.max()) >> bits:
        note = f"the header says {bits} bits, but the pixels use more: they were read as {allocated}-bit pixels"
        return StoredValues(unsigned.view(pixels.dtype), allocated, (note,))
    if int(signed.min()) >= 0:
        return StoredValues(signed.view(unsigned.dtype), bits)
    without_sign = unsigned & ((1 << bits) - 1)
    if roughness(without_sign ^ (1 << (bits - 1))) > ROUGHER * roughness(without_sign):
        note = "the header says that the pixels have a sign, which they disprove: they were read without"
        return StoredValues(without_sign, bits, (note,))
    return StoredValues(signed, bits, ("the pixels were read with a sign, which ultrasound should not have",))


def roughness(pixels: np.ndarray) -> float:
    """Return the mean difference between neighbours of unsigned pixels. Pixels read wrongly look like noise."""
    return row_difference(pixels) + column_difference(pixels)


def row_difference(pixels: np.ndarray) -> float:
    """Return the mean difference between pixels one above the other."""
    return float(cv2.absdiff(pixels[1:], pixels[:-1]).mean())


def column_difference(pixels: np.ndarray) -> float:
    """Return the mean difference between pixels side by side."""
    return float(cv2.absdiff(pixels[:, 1:], pixels[:, :-1]).mean())


def _align(unsigned: np.ndarray, bits: int, header: Dataset) -> np.ndarray:
    """Return the pixels with their lowest bit at 0. Old files store 12 bits in the upper ones of 16 (High Bit 15)."""
    high_bit = header.get("HighBit")
    shift = high_bit + 1 - bits if isinstance(high_bit, int) else 0
    if not 0 < shift <= 8 * unsigned.itemsize - bits or (unsigned & ((1 << shift) - 1)).any():
        return unsigned
    return unsigned >> shift


def _without_unused_bits(unsigned: np.ndarray, bits: int, header: Dataset) -> StoredValues:
    highest = int(unsigned.max())
    if not highest >> bits:
        return StoredValues(unsigned, bits)
    if _has_overlay_in_pixels(header):
        return StoredValues(unsigned & ((1 << bits) - 1), bits)
    used = used_depth(highest)
    note = f"the header says {bits} bits, but the pixels use {used}: they were read as {used}-bit pixels"
    return StoredValues(unsigned, used, (note,))


def _has_overlay_in_pixels(header: Dataset) -> bool:
    """Return whether graphics are in unused bits of the pixels: retired, and still in archives."""
    return any(
        header.get((group, OVERLAY_BIT_POSITION)) is not None and header[group, OVERLAY_BIT_POSITION].value
        for group in OVERLAY_GROUPS
    )


def _extend_sign(unsigned: np.ndarray, bits: int) -> np.ndarray:
    """Return signed integers of the same size: the bit below `bits` is the sign."""
    shift = 8 * unsigned.itemsize - bits
    return (unsigned << shift).view(f"i{unsigned.itemsize}") >> shift
