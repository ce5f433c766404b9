"""The order of bytes and samples in uncompressed pixels, where the header may be wrong about it.

Pixels in a wrong order look like noise: neighbours differ more. The header is believed unless its order is clearly the
worse one.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from pydicom import uid

from service.decoding.dicom.bits_stored import column_difference, roughness, row_difference

# How much worse the order of the header must be to be wrong.
ROUGHER_ROWS, MORE_COLOURFUL = 1.15, 2.0  # planes of a picture that is mostly grey in the right order
ROUGHER_COLOURS, MIN_COLOUR_DIFFERENCE = 1.3, 4 / 255  # planes of a colourful picture
ROUGHER_BYTES = 2.0  # of 16-bit pixels
ROUGHER_PAIRS = 1.2  # of 8-bit pixels in words of 16 bits
PLANES_NOTE = "the pixels disprove Planar Configuration (0028,0006) of the header: the other one was read"
BYTES_NOTE = "the pixels disprove the order of bytes that the header says: the other one was read"
OTHER_VR = {"OB": "OW", "OW": "OB"}


class PixelOrder(NamedTuple):
    """options: of pydicom's decoders, corrected. notes: what the header got wrong."""

    options: dict[str, Any]
    notes: tuple[str, ...] = ()


def find_order(frame: bytes, options: dict[str, Any]) -> PixelOrder:
    """Return the options that fit an uncompressed frame.

    options: of `read_pixel_options`, with the key pixel_vr.
    """
    rows, columns = options["rows"], options["columns"]
    if options["photometric_interpretation"] == "YBR_FULL_422":
        return PixelOrder(options)
    if options["samples_per_pixel"] == 3:
        return _find_planes(np.frombuffer(frame, f"u{options['bits_allocated'] // 8}"), options)
    is_little_endian = options["transfer_syntax_uid"].is_little_endian
    if options["bits_allocated"] == 16:
        words = np.frombuffer(frame, "<u2" if is_little_endian else ">u2").astype(np.uint16).reshape(rows, columns)
        if _relative_roughness(words) > ROUGHER_BYTES * _relative_roughness(words.byteswap()):
            syntax = uid.ExplicitVRBigEndian if is_little_endian else uid.ExplicitVRLittleEndian
            return PixelOrder(options | {"transfer_syntax_uid": syntax}, (BYTES_NOTE,))
    elif not is_little_endian and columns % 2 == 0:  # OW says that pairs of pixels are exchanged
        pixels = np.frombuffer(frame, np.uint8).reshape(rows, columns)
        exchanged = np.ascontiguousarray(pixels.reshape(rows, -1, 2)[..., ::-1]).reshape(rows, columns)
        declared, other = (exchanged, pixels) if options["pixel_vr"] == "OW" else (pixels, exchanged)
        if column_difference(declared) > ROUGHER_PAIRS * column_difference(other):
            return PixelOrder(options | {"pixel_vr": OTHER_VR[options["pixel_vr"]]}, (BYTES_NOTE,))
    return PixelOrder(options)


def has_exchanged_pixels(options: dict[str, Any]) -> bool:
    """Return whether 8-bit pixels lie in big-endian words of 16 bits (PS3.5 A.3): the second pixel comes first."""
    is_big_endian = not options["transfer_syntax_uid"].is_little_endian
    return is_big_endian and options["bits_allocated"] == 8 and options["pixel_vr"] == "OW"


def _relative_roughness(pixels: np.ndarray) -> float:
    """Return the roughness per contrast: 8-bit values in the upper byte are as rough as in the lower one."""
    return roughness(pixels) / (cv2.meanStdDev(pixels)[1].item() + 1)  # numpy would copy the pixels as float64


def _find_planes(samples: np.ndarray, options: dict[str, Any]) -> PixelOrder:
    rows, columns, configuration = options["rows"], options["columns"], options["planar_configuration"]
    by_pixel = samples.reshape(rows, columns, 3)
    by_plane = np.ascontiguousarray(samples.reshape(3, rows, columns).transpose(1, 2, 0))
    declared, other = (by_plane, by_pixel) if configuration == 1 else (by_pixel, by_plane)
    rougher_rows = row_difference(declared) / (row_difference(other) + 1)
    rougher_columns = column_difference(declared) / (column_difference(other) + 1)
    colours = _colour_difference(declared)
    is_grey_in_other = rougher_rows > ROUGHER_ROWS and colours > MORE_COLOURFUL * _colour_difference(other)
    is_rougher = min(rougher_rows, rougher_columns) > ROUGHER_COLOURS
    if is_grey_in_other or (is_rougher and colours > MIN_COLOUR_DIFFERENCE * np.iinfo(samples.dtype).max):
        return PixelOrder(options | {"planar_configuration": 1 - configuration}, (PLANES_NOTE,))
    return PixelOrder(options)


def _colour_difference(pixels: np.ndarray) -> float:
    """Return the mean difference of green from red, and of blue from green."""
    return float(cv2.absdiff(pixels[..., 1:], pixels[..., :-1]).mean())
