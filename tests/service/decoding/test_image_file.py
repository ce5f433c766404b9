"""Decode PNG, JPEG and TIFF files, and refuse hostile, damaged and unusable ones."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from service.decoding.image_file import decode_image
from service.errors import FrameError

# Noise does not compress, so half of the file holds half of the picture.
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)


def encode(pixels: np.ndarray, file_format: str, **options: Any) -> bytes:
    """Return the file that Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def first_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def png_without_pixels(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PNG, JPEG, TIFF = (encode(NOISE, file_format) for file_format in ("PNG", "JPEG", "TIFF"))

INVALID_FILES = {
    "empty file": (b"", 400, "empty"),
    "text": (b"this is no picture", 415, "unknown_type"),
    "GIF": (encode(NOISE, "GIF"), 415, "unknown_type"),
    "BMP": (encode(NOISE, "BMP"), 415, "unknown_type"),
    "half a PNG": (first_half(PNG), 400, "malformed"),
    "half a JPEG": (first_half(JPEG), 400, "malformed"),
    "half a TIFF": (first_half(TIFF), 400, "malformed"),
    "half an LZW TIFF": (first_half(encode(NOISE, "TIFF", compression="tiff_lzw")), 400, "malformed"),
    "PNG without pixels": (PNG[:33], 400, "malformed"),
    "PNG with a bad byte": (PNG[:-2000] + b"\xff" + PNG[-1999:], 400, "malformed"),
    "signature of a PNG": (PNG[:8], 400, "malformed"),
    "signature of a JPEG": (JPEG[:3], 400, "malformed"),
    "signature of a TIFF": (TIFF[:4], 400, "malformed"),
    "PNG of 60000x60000": (png_without_pixels(60000, 60000), 413, "too_many_pixels"),
    "PNG of 5000x5000": (png_without_pixels(5000, 5000), 413, "too_many_pixels"),
    "PNG of 4x100000": (png_without_pixels(100_000, 4), 422, "too_small"),
    "15x15": (encode(NOISE[:15, :15], "PNG"), 422, "too_small"),
    "16x15": (encode(NOISE[:15, :16], "PNG"), 422, "too_small"),
    "float TIFF": (encode(NOISE.astype(np.float32), "TIFF"), 422, "pixel_type"),
    "32-bit TIFF": (encode(NOISE.astype(np.int32), "TIFF"), 422, "pixel_type"),
    "1-bit PNG": (encode(NOISE > 127, "PNG"), 422, "pixel_type"),
    "TIFF of two pages": (
        encode(NOISE, "TIFF", save_all=True, append_images=[Image.fromarray(NOISE)]),
        422,
        "several_pages",
    ),
    "animated PNG": (
        encode(NOISE, "PNG", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
        422,
        "several_pages",
    ),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns about half a TIFF
@pytest.mark.parametrize("name", INVALID_FILES)
def test_an_invalid_file_is_refused_with_its_status_and_code(name: str) -> None:
    data, status, code = INVALID_FILES[name]
    with pytest.raises(FrameError) as error:
        decode_image(data)
    assert (error.value.status, error.value.code) == (status, code)
    assert error.value.message.endswith(".")


def test_the_limit_counts_pixels() -> None:
    assert decode_image(PNG, max_pixels=NOISE.size).pixels.size == NOISE.size
    with pytest.raises(FrameError, match=f"more than {NOISE.size - 1} pixels"):
        decode_image(PNG, max_pixels=NOISE.size - 1)


def palette_png() -> bytes:
    """Return NOISE with a palette that runs from white at index 0 to black at 255."""
    picture = Image.fromarray(255 - NOISE).convert("P")
    picture.putpalette([value for grey in range(255, -1, -1) for value in (grey, grey, grey)])
    picture.putdata(list((255 - NOISE).ravel()))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


RGB = np.dstack([NOISE] * 3)
RGBA = np.dstack([RGB, 255 - NOISE])
BLENDED = (NOISE * ((255 - NOISE).astype(np.float32) / 255)).round().astype(np.uint8)  # over black
NOISE_16_BIT = NOISE.astype(np.uint16) * 257
VALID_FILES = {
    "8-bit PNG": (PNG, NOISE),
    "16-bit PNG": (encode(NOISE_16_BIT, "PNG"), NOISE_16_BIT),
    "RGB PNG": (encode(RGB, "PNG"), NOISE),
    "RGBA PNG": (encode(RGBA, "PNG"), BLENDED),
    "RGBA PNG, alpha unused": (encode(np.dstack([RGB, np.zeros_like(NOISE)]), "PNG"), NOISE),
    "grey PNG with alpha": (encode(np.dstack([NOISE, 255 - NOISE]), "PNG"), BLENDED),
    "16-bit RGB PNG": (cv2.imencode(".png", np.dstack([NOISE_16_BIT] * 3))[1].tobytes(), NOISE_16_BIT),
    "palette PNG": (palette_png(), NOISE),
    "8-bit TIFF": (TIFF, NOISE),
    "16-bit TIFF": (encode(NOISE_16_BIT, "TIFF"), NOISE_16_BIT),
    "RGB TIFF": (encode(RGB, "TIFF"), NOISE),
    "LZW TIFF": (encode(NOISE, "TIFF", compression="tiff_lzw"), NOISE),
    "deflated TIFF": (encode(NOISE, "TIFF", compression="tiff_adobe_deflate"), NOISE),
    "16x16": (encode(NOISE[:16, :16], "PNG"), NOISE[:16, :16]),
}


@pytest.mark.parametrize("name", VALID_FILES)
def test_a_valid_file_gives_its_pixels(name: str) -> None:
    data, pixels = VALID_FILES[name]
    frame = decode_image(data)
    assert frame.pixels.dtype == pixels.dtype
    assert (frame.height, frame.width) == pixels.shape
    assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize("pixels", [NOISE, RGB], ids=["grey", "RGB"])
def test_a_jpeg_gives_its_pixels_with_small_losses(pixels: np.ndarray) -> None:
    frame = decode_image(encode(pixels, "JPEG", quality=95))
    assert frame.pixels.shape == NOISE.shape
    assert np.abs(frame.pixels.astype(int) - NOISE).mean() < 5


@pytest.mark.parametrize("pixels", [NOISE, NOISE_16_BIT], ids=["8 bits", "16 bits"])
def test_a_tiff_with_white_as_zero_is_inverted(pixels: np.ndarray) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="miniswhite")
    assert np.array_equal(decode_image(file.getvalue()).pixels, np.iinfo(pixels.dtype).max - pixels)


def test_a_preview_before_the_picture_is_not_the_frame() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((30, 40), np.uint8), subfiletype=1)
        writer.write(NOISE)
    assert np.array_equal(decode_image(file.getvalue()).pixels, NOISE)
