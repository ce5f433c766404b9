"""The declared size of a picture is read from its header, and bounds what decoding the picture may take."""

import io

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from service.decoding.cine import open_cine
from service.decoding.declared_size import UNKNOWN_SIZE, DeclaredSize, read_declared_size
from service.decoding.file_formats import Format, detect_format
from service.errors import FrameError

GREY = np.add.outer(np.arange(40), np.arange(72)).astype(np.uint8)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
GREY_16 = GREY.astype(np.uint16) * 257


def save(pixels: np.ndarray, kind: str, **options) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def save_tiff(pixels: np.ndarray, **options) -> bytes:
    tifffile.imwrite(file := io.BytesIO(), pixels, **options)
    return file.getvalue()


FILES = {
    "PNG": (save(GREY, "PNG"), 1),
    "16-bit colour PNG": (cv2.imencode(".png", COLOUR.astype(np.uint16) * 257)[1].tobytes(), 6),
    "JPEG": (save(COLOUR, "JPEG"), 3),
    "progressive JPEG": (save(GREY, "JPEG", progressive=True), 1),
    "JPEG-LS": (imagecodecs.jpegls_encode(GREY_16), 2),
    "JPEG 2000": (imagecodecs.jpeg2k_encode(COLOUR), 3),
    "JPEG 2000 codestream": (imagecodecs.jpeg2k_encode(GREY_16, codecformat="j2k"), 2),
    "JPEG XL": (imagecodecs.jpegxl_encode(COLOUR), 8),
    "JPEG XL in a container": (imagecodecs.jpegxl_encode(GREY, usecontainer=True), 8),
    "TIFF": (save_tiff(GREY), 1),
    "TIFF of 16-bit colour": (save_tiff(COLOUR.astype(np.uint16)), 6),
    "big-endian TIFF": (save_tiff(GREY_16, byteorder=">"), 2),
    "BigTIFF": (save_tiff(COLOUR, bigtiff=True), 3),
    "TIFF of a palette": (save_tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), 3),
}


@pytest.mark.parametrize(("data", "bytes_per_pixel"), FILES.values(), ids=FILES)
def test_the_declared_size_is_that_of_the_pixels(data, bytes_per_pixel) -> None:
    size = read_declared_size(io.BytesIO(data), Format(detect_format(data)))
    assert size == DeclaredSize(40, 72, bytes_per_pixel)


@pytest.mark.parametrize("side", [16, 256, 257, 1000, 8192, 20000])
def test_the_size_of_a_jpeg_xl_in_all_its_encodings(side: int) -> None:
    for pixels in (np.zeros((side, 24), np.uint8), np.zeros((side if side < 1001 else 64, side), np.uint8)):
        data = imagecodecs.jpegxl_encode(pixels, effort=1)
        assert read_declared_size(io.BytesIO(data), Format.JPEG_XL)[:2] == pixels.shape


@pytest.mark.parametrize("data", [data for data, _ in FILES.values()], ids=FILES)
def test_a_damaged_header_declares_nothing(data) -> None:
    """The decoder then gets little memory and time, and finds out itself what is wrong."""
    file_format = Format(detect_format(data))
    for length in range(0, min(len(data), 120), 7):
        size = read_declared_size(io.BytesIO(data[:length]), file_format)
        assert size == UNKNOWN_SIZE or size.stored_bytes >= 0


def test_the_memory_of_a_frame_grows_with_its_pixels_its_file_and_its_response() -> None:
    size = DeclaredSize(1000, 1000, 1)
    assert size.frame_bytes(0) >= 12 * 10**6
    assert size.frame_bytes(10**6) > size.frame_bytes(0)
    assert size.frame_bytes(0, rendered_bytes_per_pixel=24) > size.frame_bytes(0, rendered_bytes_per_pixel=12)
    assert DeclaredSize(1000, 1000, 8).frame_bytes(0) > size.frame_bytes(0)


def test_a_jpeg_with_an_absurd_number_of_scans_is_refused_by_name() -> None:
    """60,000 scans in 600 kB took a decoder 20 s."""
    jpeg = save(GREY, "JPEG", progressive=True)
    start = jpeg.index(b"\xff\xda")
    scan = jpeg[start : jpeg.index(b"\xff", start + 2)]
    with pytest.raises(FrameError, match="60006 scans") as error:
        open_cine(io.BytesIO(jpeg[:-2] + 60_000 * scan + jpeg[-2:]))
    assert (error.value.code, error.value.status) == ("too_many_scans", 413)
