"""The used range of pixels."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from service.decoding.image_file import decode_image
from service.decoding.pixel_range import fill_range, used_depth
from tests.frames import png, speckle

GREY = speckle(5, 96, 128)


@pytest.mark.parametrize("depth", range(8, 16))
def test_a_picture_that_uses_fewer_bits_fills_the_range(depth) -> None:
    """The brightest pixel of the picture is white, as text and scales of a console are."""
    frame = decode_image(png(GREY.astype(np.uint16) << (depth - 8)))
    assert GREY.max() == 255
    assert np.abs(frame.pixels / 257 - GREY).max() <= 1
    assert f"use {depth} bits" in frame.notes[0]


@pytest.mark.parametrize(
    ("highest", "sign_bits", "depth"),
    [
        (0, 0, 8),
        (255, 0, 8),
        (300, 0, 10),  # a dark picture of 10 bits
        (510, 0, 9),
        (600, 0, 10),
        (2040, 0, 11),
        (1500, 0, 12),
        (65535, 0, 16),
        (127, 1, 8),
        (2047, 1, 12),
        (32767, 1, 16),
    ],
)
def test_the_largest_value_decides_about_the_depth(highest, sign_bits, depth) -> None:
    assert used_depth(highest, sign_bits) == depth


def test_colours_are_spread_together() -> None:
    """Pure red is dark as grey: its own depth would be a smaller one."""
    red = np.zeros((32, 32, 3), np.uint16)
    red[..., 2] = 1023  # OpenCV writes BGR
    red[0, 0] = 0
    frame = decode_image(png(red))
    assert frame.pixels[5, 5] == pytest.approx(65535 * 0.299, abs=2)


def test_pixels_above_the_declared_bits_decide() -> None:
    pixels = (GREY.astype(np.uint16) * 257)[np.newaxis]
    filled = fill_range(pixels, depth=12)
    assert np.array_equal(filled.pixels, pixels)
    assert "use 16 bits" in filled.notes[0]


def test_a_transparent_grey_value_is_black() -> None:
    """The chunk tRNS of a grey PNG, which decoders pass over."""
    pixels = GREY.astype(np.uint16) * 257
    data = cv2.imencode(".png", pixels)[1].tobytes()
    chunk = b"tRNS" + struct.pack(">H", int(pixels[40, 40]))
    position = data.index(b"IDAT") - 4
    with_chunk = data[:position] + struct.pack(">L", 2) + chunk + struct.pack(">L", zlib.crc32(chunk)) + data[position:]
    frame = decode_image(with_chunk)
    assert np.array_equal(frame.pixels, np.where(pixels == pixels[40, 40], 0, pixels))
    assert "transparent parts" in frame.notes[0]
