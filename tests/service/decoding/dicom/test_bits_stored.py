"""Grey values whose bits, sign or order are others than the header says."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import Dataset, uid

from service.decoding.frame import Frame
from service.errors import FrameError
from tests.dicoms import decode_frames, make_ultrasound, to_bytes
from tests.frames import speckle

GREY = speckle(5, 96, 128)  # from 0 to 255
WORDS = GREY.astype(np.uint16)
COLOUR = np.ascontiguousarray(cv2.applyColorMap(GREY, cv2.COLORMAP_JET)[..., ::-1])


def difference(frame: Frame, expected: np.ndarray = GREY) -> float:
    grey = frame.pixels / (257 if frame.pixels.dtype == np.uint16 else 1)
    return float(np.abs(grey - expected).max())


def one(dataset: Dataset) -> Frame:
    return decode_frames(to_bytes(dataset))[0]


def bits(stored: int, **attributes: Any) -> dict[str, Any]:
    return {"BitsStored": stored, "HighBit": stored - 1, **attributes}


@pytest.mark.parametrize(
    ("pixels", "attributes", "note"),
    [
        (WORDS << 2, bits(8), "the header says 8 bits, but the pixels use 10"),
        (WORDS * 257, bits(12), "the header says 12 bits, but the pixels use 16"),
        (WORDS, {"PixelRepresentation": 1}, "use 8 bits"),
        (WORDS << 3, bits(12, PixelRepresentation=1), "use 11 bits"),
        (GREY, {"PixelRepresentation": 1}, "have a sign, which they disprove"),
        ((WORDS << 4) << 4, {"BitsStored": 12, "HighBit": 15}, ""),
        (4095 - (WORDS << 4), {"PhotometricInterpretation": "MONOCHROME1"}, "use 12 bits"),
    ],
    ids=["10 of 8", "16 of 12", "16 signed", "12 signed", "8 signed", "high bit 15", "MONOCHROME1"],
)
def test_the_pixels_decide_about_their_bits(pixels, attributes, note) -> None:
    frame = one(make_ultrasound(pixels, **attributes))
    assert difference(frame) <= 1
    assert note in "".join(frame.notes) and bool(note) is bool(frame.notes)


def test_signed_pixels_that_use_fewer_bits_fill_the_range() -> None:
    signed = ((WORDS << 4).astype(np.int32) - 2048).astype(np.int16)
    frame = one(make_ultrasound(signed.view(np.uint16), PixelRepresentation=1))
    assert difference(frame) <= 1
    assert "with a sign" in frame.notes[0]
    assert "use 12 bits" in frame.notes[1]


def test_an_overlay_in_unused_bits_is_left_out() -> None:
    """Retired: graphics in the bit above the value (PS3.3 C.9.2, 2004)."""
    dataset = make_ultrasound((WORDS << 4) | 0x1000, **bits(12))
    dataset.add_new(0x60000102, "US", 12)
    frame = one(dataset)
    assert difference(frame) <= 1
    assert frame.notes == ()


@pytest.mark.parametrize("colour", [np.dstack([GREY] * 3), COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("planes", [0, 1])
def test_the_pixels_decide_about_their_planes(colour, planes) -> None:
    expected = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    data = colour.transpose(2, 0, 1) if planes else colour
    for declared in (0, 1):
        dataset = make_ultrasound(colour[np.newaxis], PlanarConfiguration=declared, PixelData=data.tobytes())
        frame = one(dataset)
        assert difference(frame, expected) <= 1
        assert ("Planar Configuration" in "".join(frame.notes)) is (declared != planes)


def test_noise_is_read_as_the_header_says() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for declared in (0, 1):
        assert one(make_ultrasound(noise[np.newaxis], PlanarConfiguration=declared)).notes == ()


def big_endian(pixels: np.ndarray, data: bytes, vr: str, **attributes: Any) -> list[Frame]:
    dataset = make_ultrasound(pixels, **attributes)
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    dataset.PixelData = data
    dataset["PixelData"].VR = vr
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True, implicit_vr=False, little_endian=False)
    return decode_frames(file.getvalue())


@pytest.mark.parametrize("is_swapped", [False, True])
def test_the_pixels_decide_about_their_order_of_bytes(is_swapped) -> None:
    data = (WORDS << 4).astype("<u2" if is_swapped else ">u2").tobytes()
    (frame,) = big_endian(WORDS, data, "OW", **bits(12))
    assert difference(frame) <= 1
    assert ("order of bytes" in "".join(frame.notes)) is is_swapped


@pytest.mark.parametrize("shape", [(96, 128), (95, 127)], ids=str)
def test_big_endian_words_of_two_pixels(shape) -> None:
    """A frame of an odd number of pixels ends in the middle of a word."""
    frames = np.stack([np.roll(GREY, shift, axis=1)[: shape[0], : shape[1]] for shift in range(3)])
    padded = frames.tobytes() + b"\0" * (frames.size % 2)
    words = np.frombuffer(padded, np.uint16).byteswap().tobytes()
    for frame, expected in zip(big_endian(frames, words, "OW"), frames, strict=True):
        assert np.array_equal(frame.pixels, expected)
        assert frame.notes == ()


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ({"PhotometricInterpretation": "YBR_RCT"}, "are not compressed: they were read as RGB"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "a pixel has three samples"),
    ],
    ids=str,
)
def test_a_colour_that_uncompressed_pixels_cannot_have_is_rgb_with_a_note(attributes, note) -> None:
    frame = one(make_ultrasound(COLOUR[np.newaxis], **attributes))
    assert difference(frame, cv2.cvtColor(COLOUR, cv2.COLOR_RGB2GRAY)) <= 1
    assert note in frame.notes[0]


@pytest.mark.parametrize("interpretation", ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK"])
def test_a_retired_colour_is_named(interpretation) -> None:
    with pytest.raises(FrameError, match=f"{interpretation} is not read") as error:
        one(make_ultrasound(COLOUR[np.newaxis], PhotometricInterpretation=interpretation))
    assert error.value.code == "pixel_type"


@pytest.mark.parametrize("rows", [95, 94])
def test_pixels_that_the_size_does_not_explain_have_a_note(rows) -> None:
    assert "bytes more than frames of 128x" in one(make_ultrasound(GREY, Rows=rows)).notes[0]


@pytest.mark.parametrize("spare", [0, 1, 100])
def test_whole_extra_frames_are_refused_with_any_padding(spare) -> None:
    dataset = make_ultrasound(GREY, PixelData=GREY.tobytes() * 2 + bytes(2 * spare))
    with pytest.raises(FrameError, match="those of 2 frames"):
        one(dataset)


def test_bytes_after_the_pixels_that_are_no_element_have_a_note() -> None:
    data = to_bytes(make_ultrasound(GREY.clip(60, 120)))
    inserted = data[:-5000] + b"ABCDEFGH" + data[-5000:]
    assert "but not as DICOM" in decode_frames(inserted)[0].notes[0]
    trailing_padding = b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0"
    for end in (b"", bytes(512), trailing_padding):
        assert decode_frames(data + end)[0].notes == ()


@pytest.mark.parametrize("depth", [10, 12])
def test_a_palette_whose_entries_use_fewer_bits(depth) -> None:
    dataset = make_ultrasound(GREY, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        entries = np.arange(256, dtype="<u2") << (depth - 8)
        setattr(dataset, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    frame = one(dataset)
    assert np.array_equal(frame.pixels, GREY)
    assert f"{depth}-bit entries" in frame.notes[0]


def test_a_missing_palette_is_named() -> None:
    with pytest.raises(FrameError, match="The palette of the DICOM file"):
        one(make_ultrasound(GREY, PhotometricInterpretation="PALETTE COLOR"))
