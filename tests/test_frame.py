"""Uploads to frames: what is readable, and what each hostile, broken or unfit file is answered."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from service.errors import FrameError
from service.frame import decode

# Noise does not compress: half of such a file is half of the picture.
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)


def file(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind, **options)
    return written.getvalue()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def declared_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises more."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PNG, JPEG, TIFF = (file(NOISE, kind) for kind in ("PNG", "JPEG", "TIFF"))

REFUSED = {
    "nothing": (b"", 400, "empty"),
    "text": (b"this is no picture", 415, "unknown_type"),
    "GIF": (file(NOISE, "GIF"), 415, "unknown_type"),
    "BMP": (file(NOISE, "BMP"), 415, "unknown_type"),
    "half a PNG": (cut(PNG), 400, "malformed"),
    "half a JPEG": (cut(JPEG), 400, "malformed"),
    "half a TIFF": (cut(TIFF), 400, "malformed"),
    "half an LZW TIFF": (cut(file(NOISE, "TIFF", compression="tiff_lzw")), 400, "malformed"),
    "PNG without pixels": (PNG[:33], 400, "malformed"),
    "PNG with a bad byte": (PNG[:-2000] + b"\xff" + PNG[-1999:], 400, "malformed"),
    "signature of a PNG": (PNG[:8], 400, "malformed"),
    "signature of a JPEG": (JPEG[:3], 400, "malformed"),
    "signature of a TIFF": (TIFF[:4], 400, "malformed"),
    "PNG of 60000x60000": (declared_png(60000, 60000), 413, "too_many_pixels"),
    "PNG of 5000x5000": (declared_png(5000, 5000), 413, "too_many_pixels"),
    "PNG of 4x100000": (declared_png(100_000, 4), 422, "too_small"),
    "15x15": (file(NOISE[:15, :15], "PNG"), 422, "too_small"),
    "16x15": (file(NOISE[:15, :16], "PNG"), 422, "too_small"),
    "float TIFF": (file(NOISE.astype(np.float32), "TIFF"), 422, "pixel_type"),
    "32-bit TIFF": (file(NOISE.astype(np.int32), "TIFF"), 422, "pixel_type"),
    "1-bit PNG": (file(NOISE > 127, "PNG"), 422, "pixel_type"),
    "TIFF of two pages": (
        file(NOISE, "TIFF", save_all=True, append_images=[Image.fromarray(NOISE)]),
        422,
        "several_pages",
    ),
    "animated PNG": (
        file(NOISE, "PNG", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
        422,
        "several_pages",
    ),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # so says Pillow of half a TIFF
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_frame_is_refused_with_its_status(name: str) -> None:
    data, status, code = REFUSED[name]
    with pytest.raises(FrameError) as refused:
        decode(data)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.message.endswith(".")


def test_the_limit_counts_pixels() -> None:
    assert decode(PNG, limit_px=NOISE.size).pixels.size == NOISE.size
    with pytest.raises(FrameError, match=f"more than {NOISE.size - 1} pixels"):
        decode(PNG, limit_px=NOISE.size - 1)


def palette_png() -> bytes:
    """Its palette runs backwards: index 0 is white."""
    picture = Image.fromarray(255 - NOISE).convert("P")
    picture.putpalette([value for grey in range(255, -1, -1) for value in (grey, grey, grey)])
    picture.putdata(list((255 - NOISE).ravel()))
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


RGB = np.dstack([NOISE] * 3)
RGBA = np.dstack([RGB, 255 - NOISE])
WIDE = NOISE.astype(np.uint16) * 257
READ = {
    "8-bit PNG": (PNG, NOISE),
    "16-bit PNG": (file(WIDE, "PNG"), WIDE),
    "RGB PNG": (file(RGB, "PNG"), NOISE),
    "RGBA PNG": (file(RGBA, "PNG"), NOISE),
    "grey PNG with alpha": (file(np.dstack([NOISE, 255 - NOISE]), "PNG"), NOISE),
    "16-bit RGB PNG": (cv2.imencode(".png", np.dstack([WIDE] * 3))[1].tobytes(), WIDE),
    "palette PNG": (palette_png(), NOISE),
    "8-bit TIFF": (TIFF, NOISE),
    "16-bit TIFF": (file(WIDE, "TIFF"), WIDE),
    "RGB TIFF": (file(RGB, "TIFF"), NOISE),
    "LZW TIFF": (file(NOISE, "TIFF", compression="tiff_lzw"), NOISE),
    "deflated TIFF": (file(NOISE, "TIFF", compression="tiff_adobe_deflate"), NOISE),
    "16x16": (file(NOISE[:16, :16], "PNG"), NOISE[:16, :16]),
}


@pytest.mark.parametrize("name", READ)
def test_the_pixels_are_read_as_they_are(name: str) -> None:
    data, pixels = READ[name]
    frame = decode(data)
    assert frame.pixels.dtype == pixels.dtype
    assert (frame.height, frame.width) == pixels.shape
    assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize("pixels", [NOISE, RGB], ids=["grey", "RGB"])
def test_a_jpeg_is_read_but_for_its_losses(pixels: np.ndarray) -> None:
    frame = decode(file(pixels, "JPEG", quality=95))
    assert frame.pixels.shape == NOISE.shape
    assert np.abs(frame.pixels.astype(int) - NOISE).mean() < 5


@pytest.mark.parametrize("pixels", [NOISE, WIDE], ids=["8 bits", "16 bits"])
def test_a_tiff_whose_zero_is_white_is_turned_round(pixels: np.ndarray) -> None:
    import tifffile

    written = io.BytesIO()
    tifffile.imwrite(written, pixels, photometric="miniswhite")
    assert np.array_equal(decode(written.getvalue()).pixels, np.iinfo(pixels.dtype).max - pixels)
