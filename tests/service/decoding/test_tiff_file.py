"""The pages of TIFF files, and the kinds of pixels that a page can have."""

import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from service.decoding import cine as cine_module
from service.decoding.cine import open_cine
from service.decoding.image_file import decode_image
from service.decoding.tiff_file import list_pages, read_page, read_page_header
from service.errors import FrameError
from tests.frames import speckle

GREY = speckle(2, 96, 128)
WORDS = GREY.astype(np.uint16)
COLOUR = np.dstack([GREY, np.roll(GREY, 9, axis=0), 255 - GREY])
LUMA = COLOUR @ np.array([0.299, 0.587, 0.114])
HALF = np.dstack([GREY // 2] * 3 + [np.where(np.arange(128) < 64, 128, 255)[np.newaxis].repeat(96, 0)]).astype(np.uint8)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def pages_tiff(count: int, **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for shift in range(count):
            writer.write(np.roll(GREY, shift, axis=1), contiguous=False)
    return file.getvalue()


class CountingFile(io.BytesIO):
    """A file that counts the bytes that are read."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.bytes_read += count
        return count


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}], ids=str)
def test_the_pages_are_a_cine(options) -> None:
    cine = open_cine(io.BytesIO(pages_tiff(5, **options)))
    assert cine.frame_count == 5
    for index in (0, 4, 2):
        frame = cine.decode(cine.read_encoded(index), index)
        assert np.array_equal(frame.pixels, np.roll(GREY, index, axis=1))
        assert (frame.index, frame.notes) == (index, ())


def test_all_pages_together_cost_about_the_bytes_of_the_file(monkeypatch) -> None:
    """Neither the decoder process gets them several times, nor does it read them several times."""
    sent = []
    run_in_decoder_process = cine_module.run_in_decoder_process

    def record(decoder: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(len(pickle.dumps(arguments)))
        return run_in_decoder_process(decoder, *arguments, **options)

    monkeypatch.setattr(cine_module, "run_in_decoder_process", record)
    data = pages_tiff(40)
    cine = open_cine(io.BytesIO(data))
    for index in range(cine.frame_count):
        cine.decode(cine.read_encoded(index), index)
    assert sum(sent) < 1.2 * len(data)

    file = CountingFile(data)
    for page in list_pages(file).pixels.tolist():
        read_page_header(file, page)
        read_page(file, page)
    assert file.bytes_read < 1.5 * len(data)


def test_a_broken_chain_of_pages_has_a_note() -> None:
    data = bytearray(pages_tiff(3))
    second, third = list_pages(io.BytesIO(data)).pixels.tolist()[1:]
    link = data.index(struct.pack("<L", third), second)
    for target in (len(data) + 1000, second):  # behind the end, and back to the same page
        struct.pack_into("<L", data, link, target)
        cine = open_cine(io.BytesIO(bytes(data)))
        assert cine.frame_count == 2
        assert "pages after page 2 are missing" in cine.decode(cine.read_encoded(0), 0).notes[0]


@pytest.mark.parametrize("offset", [0, 0x7FFFFFFF])
def test_a_file_without_a_first_page_is_refused(offset) -> None:
    data = bytearray(pages_tiff(1))
    struct.pack_into("<L", data, 4, offset)
    with pytest.raises(FrameError) as error:
        decode_image(bytes(data))
    assert error.value.code == "malformed"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(GREY >> 4, bitspersample=4), (GREY >> 4) * 17),
        (tiff(GREY >> 6, bitspersample=2), (GREY >> 6) * 85),
        (tiff(WORDS << 4, bitspersample=12), GREY),
        (tiff(4095 - (WORDS << 4), photometric="miniswhite"), GREY),
        (tiff(255 - GREY, photometric="miniswhite"), GREY),
        (tiff(GREY, tile=(32, 32)), GREY),
        (tiff(GREY, bigtiff=True), GREY),
        (tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"), LUMA),
        (tiff(HALF, photometric="rgb", extrasamples=["assocalpha"]), GREY // 2),
        (tiff(HALF, photometric="rgb", extrasamples=["unspecified"]), GREY // 2),
        (tiff(np.dstack([GREY, 255 - GREY, GREY]), photometric="ycbcr"), GREY),
        (tiff(GREY, photometric="palette", colormap=np.arange(256, dtype=np.uint16)[np.newaxis].repeat(3, 0)), GREY),
    ],
    ids=[
        "4 bits",
        "2 bits",
        "12 bits",
        "white is 0 in 12 of 16 bits",
        "white is 0",
        "tiles",
        "BigTIFF",
        "planes",
        "associated alpha",
        "unspecified channel",
        "YCbCr",
        "palette of 8-bit entries",
    ],
)
def test_a_kind_of_pixels(data, expected) -> None:
    frame = decode_image(data)
    grey = frame.pixels / (257 if frame.pixels.dtype == np.uint16 else 1)
    assert np.abs(grey - expected).max() <= 1
