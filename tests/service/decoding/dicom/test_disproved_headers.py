"""Headers that the bytes of the file disprove, and headers with optional elements that mean nothing."""

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from service.decoding.cine import open_cine
from service.decoding.frame import Frame
from service.errors import FrameError
from tests.dicoms import make_ultrasound, to_bytes
from tests.frames import speckle

GREY = speckle(4, 64, 80)
CINE = np.stack([GREY, np.roll(GREY, 7, axis=1), np.roll(GREY, 20, axis=1)])
COLOUR = np.dstack([GREY, np.roll(GREY, 5, axis=0), 255 - GREY])


def read(dataset: Dataset) -> list[Frame]:
    cine = open_cine(io.BytesIO(to_bytes(dataset)))
    return [cine.decode(cine.read_encoded(index), index) for index in range(cine.frame_count)]


def compressed(
    *codestreams: bytes, colour: bool = False, syntax: str = uid.JPEGBaseline8Bit, **attributes: Any
) -> Dataset:
    pixels = COLOUR[np.newaxis] if colour else GREY
    dataset = make_ultrasound(pixels, **attributes)
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.PixelData = encapsulate(list(codestreams))
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dataset


def jpeg(pixels: np.ndarray, colour_space: str | None = None) -> bytes:
    """Return a JPEG; its components are in `colour_space`, and it has the markers that libjpeg writes for that."""
    colour = {"colorspace": "RGB", "outcolorspace": colour_space} if colour_space else {}
    return bytes(imagecodecs.jpeg8_encode(pixels, level=98, **colour))


def mean_difference(frame: Frame, pixels: np.ndarray) -> float:
    return float(np.abs(frame.pixels.astype(float) - pixels).mean())


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT"])
@pytest.mark.parametrize("colour_space", ["RGB", "YCBCR"])
def test_the_markers_of_a_jpeg_decide_about_colour(label, colour_space) -> None:
    (expected,) = read(make_ultrasound(COLOUR[np.newaxis]))
    codestream = jpeg(COLOUR, colour_space)
    (frame,) = read(compressed(codestream, colour=True, PhotometricInterpretation=label, NumberOfFrames=1))
    assert mean_difference(frame, expected.pixels) < 3
    is_right = label.startswith("YBR_FULL") == (colour_space == "YCBCR")
    assert any("it was read as" in note for note in frame.notes) is not is_right


@pytest.mark.parametrize("frames", [None, "many"])
def test_a_multi_frame_file_without_a_number_of_frames_has_those_of_its_pixels(frames) -> None:
    native = make_ultrasound(CINE)
    encapsulated = compressed(*(jpeg(frame) for frame in CINE), SOPClassUID=native.SOPClassUID)
    for dataset in (native, encapsulated):
        dataset.NumberOfFrames = None
        if frames is None:
            del dataset.NumberOfFrames
        read_frames = read(dataset)
        assert len(read_frames) == 3
        assert "those of 3 frames" in read_frames[0].notes[-1]


def test_a_file_with_more_frames_than_it_declares_is_refused() -> None:
    dataset = make_ultrasound(CINE, NumberOfFrames=2)
    with pytest.raises(FrameError, match=r"declares 2 frame\(s\)\. Its pixels are those of 3 frames"):
        read(dataset)
    single = make_ultrasound(GREY, PixelData=CINE.tobytes())
    with pytest.raises(FrameError, match=r"declares 1 frame\(s\)\. Its pixels are those of 3 frames"):
        read(single)


def test_full_colour_labelled_as_subsampled_and_the_reverse() -> None:
    full = make_ultrasound(COLOUR[np.newaxis], PhotometricInterpretation="YBR_FULL")
    (expected,) = read(full)
    full.PhotometricInterpretation = "YBR_FULL_422"
    (frame,) = read(full)
    assert np.array_equal(frame.pixels, expected.pixels) and "three bytes" in frame.notes[0]

    subsampled = make_ultrasound(COLOUR[np.newaxis], PhotometricInterpretation="YBR_FULL_422")
    subsampled.PixelData = bytes(GREY.size * 2)
    (expected,) = read(subsampled)
    subsampled.PhotometricInterpretation = "YBR_FULL"
    (frame,) = read(subsampled)
    assert np.array_equal(frame.pixels, expected.pixels) and "two bytes" in frame.notes[0]


@pytest.mark.parametrize(
    "window",
    [
        {"WindowWidth": 0, "WindowCenter": 128},
        {"WindowWidth": -5, "WindowCenter": 128},
        {"WindowWidth": 10, "WindowCenter": -4000},
        {"WindowWidth": 10, "WindowCenter": 4000},
    ],
    ids=str,
)
def test_a_window_that_leaves_nothing_to_see_is_ignored(window) -> None:
    (frame,) = read(make_ultrasound(GREY, **window))
    assert np.array_equal(frame.pixels, GREY)
    assert "the window in the header is malformed" in frame.notes[0]


@pytest.mark.parametrize("depth", [10, 12])
def test_16_bit_pixels_that_use_fewer_bits_fill_the_range(depth) -> None:
    pixels = GREY.astype(np.uint16) << (depth - 8)
    (frame,) = read(make_ultrasound(pixels))
    assert np.abs(frame.pixels / 257 - GREY).max() <= 2
    assert f"use {depth} bits" in frame.notes[0]


def test_a_preamble_without_file_meta_information(tmp_path) -> None:
    data = to_bytes(make_ultrasound(GREY))
    start = data.index(b"\x08\x00\x16\x00UI")  # the first element after the file meta information
    for head in (b"", bytes(128) + b"DICM"):
        (frame,) = [open_cine(io.BytesIO(head + data[start:]))]
        assert np.array_equal(frame.decode(frame.read_encoded(0), 0).pixels, GREY)


def test_an_offset_table_that_does_not_fit_is_not_used() -> None:
    """Two fragments for each frame, and offsets to nowhere: the end-of-image markers decide."""
    codestreams = [jpeg(frame) for frame in CINE]
    dataset = compressed(*codestreams, SOPClassUID=uid.UltrasoundMultiFrameImageStorage, NumberOfFrames=3)
    dataset.PixelData = encapsulate(codestreams, fragments_per_frame=2)
    data = bytearray(to_bytes(dataset))
    table = data.index(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff") + 12 + 8
    data[table : table + 12] = bytes([1] * 12)
    cine = open_cine(io.BytesIO(bytes(data)))
    assert cine.frame_count == 3
    assert mean_difference(cine.decode(cine.read_encoded(2), 2), CINE[2]) < 3
