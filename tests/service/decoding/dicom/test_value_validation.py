"""pydicom's checks of the header's values: a value that is not valid is named, never used in silence."""

import struct
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword

from service.decoding.frame import Frame
from service.errors import FrameError
from tests.dicoms import decode_frames, make_ultrasound, to_bytes

PIXEL_DATA_HEAD = b"\xe0\x7f\x10\x00"
GREY = np.arange(96 * 128, dtype=np.uint16).reshape(96, 128) // 48 % 256


def with_element(data: bytes, keyword: str, vr: bytes, value: bytes) -> bytes:
    """Return an explicit little-endian file with an element whose value pydicom would not write, before the pixels.

    An element that the file has already is replaced.
    """
    tag = tag_for_keyword(keyword) or 0
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    element = head + vr + struct.pack("<H", len(value)) + value
    position = data.find(head, 132)
    if position >= 0:
        (length,) = struct.unpack_from("<H", data, position + 6)
        return data[:position] + element + data[position + 8 + length :]
    position = data.index(PIXEL_DATA_HEAD)
    return data[:position] + element + data[position:]


def read(keyword: str, vr: bytes, value: bytes, **attributes: Any) -> Frame:
    dataset = make_ultrasound(GREY.astype(np.uint8), **attributes)
    return decode_frames(with_element(to_bytes(dataset), keyword, vr, value))[0]


@pytest.mark.parametrize(
    ("keyword", "value", "name"),
    [
        ("PixelSpacing", b"0_3\\0_4 ", "Pixel Spacing (0028,0030)"),  # Python reads 3 and 4
        ("PixelSpacing", b"nan\\nan ", "Pixel Spacing (0028,0030)"),
        ("WindowWidth", b"1_0 ", "Window Width (0028,1051)"),
        ("WindowCenter", b"40 HU ", "Window Center (0028,1050)"),
        ("RescaleSlope", b"inf ", "Rescale Slope (0028,1053)"),
        ("RescaleSlope", b"1\\2 ", "Rescale Slope (0028,1053)"),
        ("NumberOfFrames", b"one ", "Number of Frames (0028,0008)"),
        ("NumberOfFrames", b"0_1 ", "Number of Frames (0028,0008)"),
        ("NumberOfFrames", b"1\\1 ", "Number of Frames (0028,0008)"),
        ("CineRate", b"fast", "Cine Rate (0018,0040)"),
    ],
    ids=str,
)
def test_an_optional_value_that_is_not_valid_is_ignored_with_a_note(keyword, value, name) -> None:
    vr = b"IS" if keyword in ("NumberOfFrames", "CineRate") else b"DS"
    frame = read(keyword, vr, value, **({"WindowCenter": 128} if keyword == "WindowWidth" else {}))
    assert np.array_equal(frame.pixels, GREY)
    assert frame.spacing_mm is None
    assert frame.notes[0] == f"{name} is malformed: it was ignored"


def test_a_number_with_too_many_digits_is_used_with_a_note() -> None:
    frame = read("PixelSpacing", b"DS", b"0.30000000000000001\\0.4")
    assert frame.spacing_mm == (0.4, 0.3)
    assert frame.notes == ("Pixel Spacing (0028,0030) is longer than DICOM allows: it was used as it is",)


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("PixelSpacing", b"DS", b"0.3\\0.4 "),
        ("PixelSpacing", b"DS", b" 3e-1\\+0.4"),
        ("PixelSpacing", b"FD", struct.pack("<dd", 0.3, 0.4)),
        ("PixelSpacing", b"LO", b"0.3\\0.4 "),
    ],
)
def test_values_that_are_valid_have_no_note(keyword, vr, value) -> None:
    frame = read(keyword, vr, value)
    assert (frame.spacing_mm, frame.notes) == ((0.4, 0.3), ())


def test_a_number_of_frames_of_zero_is_ignored_with_a_note() -> None:
    assert "Number of Frames (0028,0008) is 0" in read("NumberOfFrames", b"IS", b"0 ").notes[0]


@pytest.mark.parametrize("half", ["WindowCenter", "WindowWidth"])
def test_half_a_window_is_ignored_with_a_note(half) -> None:
    frame = read(half, b"DS", b"10")
    assert np.array_equal(frame.pixels, GREY)
    assert "the window in the header is malformed" in frame.notes[0]


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "name"),
    [
        ("Rows", b"US", struct.pack("<HH", 96, 96), "Rows (0028,0010)"),
        ("Rows", b"US", b"\x60\0\0", "Rows (0028,0010)"),
        ("Rows", b"LO", b"96", "Rows (0028,0010)"),
        ("BitsStored", b"CS", b"8 ", "Bits Stored (0028,0101)"),
        ("PixelRepresentation", b"US", struct.pack("<H", 2), "(0028,0103) 'Pixel Representation'"),
        ("BitsStored", b"US", struct.pack("<H", 9), "(0028,0101) 'Bits Stored'"),
        ("PhotometricInterpretation", b"CS", b"GREYISH ", "(0028,0004) 'Photometric Interpretation'"),
    ],
    ids=str,
)
def test_a_value_that_the_pixels_need_is_named_if_it_is_not_valid(keyword, vr, value, name) -> None:
    with pytest.raises(FrameError) as error:
        read(keyword, vr, value)
    assert (error.value.status, error.value.code) == (400, "malformed")
    assert name in error.value.message


def test_a_photometric_interpretation_in_small_letters_is_read_with_a_note() -> None:
    assert "was read as MONOCHROME2" in read("PhotometricInterpretation", b"CS", b"monochrome2 ").notes[0]
    assert read("PhotometricInterpretation", b"CS", b" MONOCHROME2").notes == ()


def test_nothing_is_written_to_the_log(caplog, recwarn) -> None:
    frame = read("PixelSpacing", b"DS", b"a\\b ", PatientName="Doe^Jane=" * 40)
    assert frame.notes
    assert not caplog.records
    assert not [warning for warning in recwarn if "valid" in str(warning.message) and "Jane" in str(warning.message)]
