"""Compressed frames whose header declares something else than the codestream."""

from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels import get_decoder

from service.decoding.dicom import decompression as codestream_module
from service.decoding.dicom import imagecodecs_plugin
from service.decoding.dicom.header_checks import read_pixel_options
from service.decoding.frame import Frame
from service.errors import FrameError
from tests.dicoms import decode_frames, make_compressed_ultrasound, make_ultrasound, to_bytes
from tests.frames import speckle

GREY = speckle(6, 96, 128)
WORDS = GREY.astype(np.uint16)
COLOUR = np.ascontiguousarray(cv2.applyColorMap(GREY, cv2.COLORMAP_JET)[..., ::-1])
LUMA = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2GRAY)


def jpeg(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, level=98))


def jpeg_2000(pixels: np.ndarray, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, codecformat="J2K", **options))


def jpeg_ls(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels))


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True))


def jpeg_12(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(pixels, bitspersample=12, level=98))


def dicom(codestream: bytes, syntax: uid.UID, pixels: np.ndarray = GREY, **attributes: Any) -> Dataset:
    """Return a file whose header declares `pixels`."""
    dataset = make_ultrasound(pixels, **attributes)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dataset


def one(dataset: Dataset) -> Frame:
    return decode_frames(to_bytes(dataset))[0]


def difference(frame: Frame, expected: np.ndarray) -> float:
    grey = frame.pixels / (257 if frame.pixels.dtype == np.uint16 else 1)
    return float(np.abs(grey - expected).mean())


GREY_CODECS = [
    (jpeg, uid.JPEGBaseline8Bit),
    (lossless_jpeg, uid.JPEGLosslessSV1),
    (jpeg_ls, uid.JPEGLSLossless),
    (jpeg_2000, uid.JPEG2000Lossless),
]


@pytest.mark.parametrize(("encode", "syntax"), GREY_CODECS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_number_of_samples_is_that_of_the_codestream(encode, syntax) -> None:
    labelled_colour = one(dicom(encode(GREY), syntax, COLOUR[np.newaxis], NumberOfFrames=1))
    labelled_grey = one(dicom(encode(COLOUR), syntax))
    assert difference(labelled_colour, GREY) < 2 and "holds MONOCHROME2" in labelled_colour.notes[0]
    assert difference(labelled_grey, LUMA) < 3 and "header says MONOCHROME2" in labelled_grey.notes[0]


@pytest.mark.parametrize(("frames", "samples"), [(GREY, 3), (COLOUR, 1)], ids=["grey", "colour"])
def test_the_number_of_samples_is_that_of_the_rle_segments(frames, samples) -> None:
    dataset = make_compressed_ultrasound(frames[np.newaxis], uid.RLELossless)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = samples, 0
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    frame = one(dataset)
    assert difference(frame, GREY if samples == 3 else LUMA) == 0
    assert "the compressed frame holds" in frame.notes[0]


@pytest.mark.parametrize("allocated", [8, 16])
def test_the_bits_are_those_of_the_rle_segments(allocated) -> None:
    """Two segments for 16 bits, one for 8."""
    dataset = make_compressed_ultrasound((GREY if allocated == 16 else WORDS * 257)[np.newaxis], uid.RLELossless)
    dataset.BitsAllocated = dataset.BitsStored = allocated
    dataset.HighBit = allocated - 1
    assert difference(one(dataset), GREY) == 0


def test_rle_segments_of_another_size_have_a_note() -> None:
    dataset = make_compressed_ultrasound(GREY[np.newaxis], uid.RLELossless)
    dataset.Rows = 95
    assert "128 bytes more than frames of 128x95 need" in one(dataset).notes[0]


@pytest.mark.parametrize(
    ("codestream", "syntax"),
    [
        (jpeg_2000(WORDS << 4, bitspersample=12), uid.JPEG2000Lossless),
        (jpeg_ls(WORDS << 4), uid.JPEGLSLossless),
        (jpeg_12(WORDS << 4), uid.JPEGExtended12Bit),
    ],
    ids=["JPEG 2000", "JPEG-LS", "JPEG"],
)
@pytest.mark.parametrize("stored", [8, 12, 16])
def test_the_bits_are_those_of_the_codestream(codestream, syntax, stored) -> None:
    frame = one(dicom(codestream, syntax, WORDS, BitsStored=stored, HighBit=stored - 1))
    assert difference(frame, GREY) < 1
    assert bool(frame.notes) is (stored != 12)
    in_bytes = one(dicom(codestream, syntax))  # the header allocates 8 bits
    assert difference(in_bytes, GREY) < 1
    assert "the header says 8 bits, but the pixels use 12" in in_bytes.notes[0]


def test_an_8_bit_codestream_in_a_16_bit_header() -> None:
    for encode, syntax in GREY_CODECS:
        assert difference(one(dicom(encode(GREY), syntax, WORDS)), GREY) < 2


@pytest.mark.parametrize(("encode", "syntax"), GREY_CODECS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("declared", [uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGLSLossless, uid.RLELossless])
def test_the_codestream_decides_about_its_kind(encode, syntax, declared) -> None:
    frame = one(dicom(encode(GREY), declared))
    assert difference(frame, GREY) < 2
    is_right = declared == syntax or (declared == uid.JPEG2000 and syntax == uid.JPEG2000Lossless)
    assert ("but the frame is" in "".join(frame.notes)) is not is_right


YCBCR = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]].copy()


@pytest.mark.parametrize("plugin", [None, "imagecodecs"])
@pytest.mark.parametrize(
    ("codestream", "syntax", "interpretation"),
    [
        (imagecodecs.jpeg8_encode(YCBCR, lossless=True, colorspace="YCBCR", outcolorspace="YCBCR"), 1, "YBR_FULL"),
        (imagecodecs.jpegls_encode(YCBCR), 2, "YBR_FULL"),
        (imagecodecs.jpeg2k_encode(YCBCR, reversible=True, codecformat="J2K", mct=False), 3, "YBR_FULL"),
        (imagecodecs.jpeg2k_encode(COLOUR, reversible=True, codecformat="J2K", mct=True), 3, "YBR_RCT"),
    ],
    ids=["lossless JPEG", "JPEG-LS", "JPEG 2000", "JPEG 2000, transformed"],
)
def test_each_decoder_converts_colours_once(monkeypatch, codestream, syntax, interpretation, plugin) -> None:
    """plugin: the only decoder; None: the preferred one."""
    syntax = GREY_CODECS[syntax][1]
    if plugin:
        monkeypatch.setattr(get_decoder(syntax), "_available", {plugin: imagecodecs_plugin.decode_frame})
        monkeypatch.setattr(codestream_module, "FASTER_PLUGINS", {})
    dataset = dicom(
        bytes(codestream), syntax, COLOUR[np.newaxis], PhotometricInterpretation=interpretation, NumberOfFrames=1
    )
    options, _ = read_pixel_options(dataset)
    pixels, notes = codestream_module.decompress_frame(bytes(codestream), options)
    assert np.abs(pixels.astype(int) - COLOUR).mean() < 2
    assert notes == ()


def test_an_extended_offset_table_does_not_cut_the_frames() -> None:
    """The table has the lengths of all frames; a decoder gets one frame."""
    frames = np.stack([np.zeros_like(GREY), GREY, GREY[::-1]])
    for encode, syntax in GREY_CODECS:
        dataset = dicom(jpeg(GREY), syntax, frames)
        table = encapsulate_extended([encode(frame) for frame in frames])
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table
        dataset["PixelData"].is_undefined_length = True
        for frame, expected in zip(decode_frames(to_bytes(dataset)), frames, strict=True):
            assert difference(frame, expected) < 2


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["no end", "end"])
@pytest.mark.parametrize(("encode", "syntax"), GREY_CODECS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_cut_codestream_is_refused(encode, syntax, end, share) -> None:
    codestream = encode(GREY)
    with pytest.raises(FrameError) as error:
        one(dicom(codestream[: int(len(codestream) * share)] + end, syntax))
    assert error.value.code == "malformed"


@pytest.mark.parametrize("padding", [b"", b"\0", bytes(20)], ids=len)
def test_jpeg_2000_without_the_marker_of_its_end_is_read(padding) -> None:
    frame = one(dicom(jpeg_2000(GREY)[:-2] + padding, uid.JPEG2000Lossless))
    assert np.array_equal(frame.pixels, GREY)


def test_bytes_between_the_data_of_a_jpeg_and_its_end_have_a_note() -> None:
    codestream = jpeg(GREY)
    frame = one(dicom(codestream[:-2] + bytes(20) + codestream[-2:], uid.JPEGBaseline8Bit))
    assert "the JPEG is damaged" in frame.notes[0]


def test_a_frame_of_four_samples_is_named() -> None:
    cmyk = imagecodecs.jpeg8_encode(np.dstack([GREY] * 4), colorspace="CMYK", outcolorspace="CMYK")
    with pytest.raises(FrameError, match="4 samples"):
        one(dicom(bytes(cmyk), uid.JPEGBaseline8Bit, COLOUR[np.newaxis], NumberOfFrames=1))


def test_damaged_rle_segments_are_refused() -> None:
    dataset = make_compressed_ultrasound(GREY[np.newaxis], uid.RLELossless)
    codestream = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    codestream[4:8] = b"\xff\xff\xff\x7f"  # the segment begins behind the end
    dataset.PixelData = encapsulate([bytes(codestream)])
    with pytest.raises(FrameError) as error:
        one(dataset)
    assert error.value.code == "malformed"
