"""Files that real tools write: each gives the right pixels, or the error that names what it is.

The files in tests/cases hold one simulated frame: base.png and base.dcm are the plain ones.
"""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from service.decoding.cine import open_cine
from service.decoding.frame import Frame
from service.errors import FrameError

CASES = Path(__file__).parents[2] / "cases"
LOSSLESS, LOSSY = 0.5, 4.0  # mean difference of grey values of 0..255


def read_frames(name: str) -> list[Frame]:
    cine = open_cine(io.BytesIO((CASES / name).read_bytes()))
    return [cine.decode(cine.read_encoded(index), index) for index in range(cine.frame_count)]


def grey(frame: Frame) -> np.ndarray:
    """Return float64 grey values, 0..255."""
    return frame.pixels / (257 if frame.pixels.dtype == np.uint16 else 1)


def difference(frame: Frame, expected: np.ndarray) -> float:
    assert frame.pixels.shape == expected.shape
    return float(np.abs(grey(frame) - expected).mean())


@pytest.mark.parametrize(
    ("name", "limit", "note"),
    [
        ("16bit_png_with_10_bits.png", LOSSLESS, "use 10 bits"),
        ("12bit.jpg", LOSSY, ""),
        ("jpegls.jls", 0, ""),
        ("zstd.tif", 0, ""),
        ("mpo_two_pictures.jpg", LOSSY, "the first one was read"),
    ],
)
def test_a_picture_is_the_plain_picture(name: str, limit: float, note: str) -> None:
    (plain,), (frame,) = read_frames("base.png"), read_frames(name)
    assert difference(frame, grey(plain)) <= limit
    assert_note(frame, note)


@pytest.mark.parametrize(("name", "turns"), [("exif_orientation_6.jpg", -1), ("orientation_3_8bit.tif", 2)])
def test_orientation_is_applied_to_every_format(name: str, turns: int) -> None:
    (plain,), (frame,) = read_frames("base.png"), read_frames(name)
    assert difference(frame, np.rot90(grey(plain), turns)) <= LOSSY
    assert_note(frame, "turned upright")


@pytest.mark.parametrize(
    ("name", "frame_count", "limit", "note"),
    [
        ("bigendian8_OW.dcm", 1, 0, ""),
        ("charset_says_utf8_is_latin1.dcm", 1, 0, ""),
        ("deflated.dcm", 1, 0, ""),
        ("encaps_bot_first_only.dcm", 3, LOSSY, ""),
        ("htj2k.dcm", 1, 0, ""),
        ("jpeg_extended12.dcm", 1, LOSSY, ""),
        ("missing_SamplesPerPixel.dcm", 1, 0, ""),
        ("native_frames_missing_tag.dcm", 3, 0, "those of 3 frames"),
        ("no_preamble_no_meta.dcm", 1, 0, ""),
        ("palette8_words.dcm", 1, 0, "8-bit entries"),
        ("pixelspacing_comma.dcm", 1, 0, "Pixel Spacing (0028,0030) is malformed"),
        ("region_one_malformed_of_two.dcm", 1, 0, "the others were used"),
        ("series_number_huge.dcm", 1, 0, ""),
        ("series_number_text.dcm", 1, 0, ""),
        ("window_width_zero.dcm", 1, 0, "the window in the header is malformed"),
    ],
)
def test_a_dicom_file_is_the_plain_dicom_file(name: str, frame_count: int, limit: float, note: str) -> None:
    (plain,), frames = read_frames("base.dcm"), read_frames(name)
    assert len(frames) == frame_count
    assert difference(frames[0], grey(plain)) <= limit
    assert_note(frames[0], note)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("jpeg_ycbcr_labelled_RGB_no_jfif.dcm", "holds YBR_FULL"),
        ("j2k_rct_labelled_YBR_FULL_422.dcm", "holds YBR_RCT"),
        ("ybr422_label_but_full_bytes.dcm", "three bytes"),
    ],
)
def test_the_bytes_decide_about_colour(name: str, note: str) -> None:
    """The reference has the same coloured frame with a header that fits."""
    (plain,), (frame,) = read_frames("jpeg_rgb_no_marker_labelled_RGB.dcm"), read_frames(name)
    assert plain.notes == ()
    assert difference(frame, grey(plain)) <= LOSSY
    assert_note(frame, note)


def test_a_colour_jpeg_with_the_right_label_is_read_without_a_note() -> None:
    """The reference is OpenCV's grey picture of the same codestream."""
    (frame,) = read_frames("the_same_labelled_rightly.dcm")
    codestream = next(generate_frames(dcmread(CASES / "the_same_labelled_rightly.dcm").PixelData, number_of_frames=1))
    expected = cv2.imdecode(np.frombuffer(codestream, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert difference(frame, expected) <= LOSSLESS
    assert frame.notes == ()


def test_a_region_that_is_not_malformed_is_used() -> None:
    (frame,) = read_frames("region_one_malformed_of_two.dcm")
    assert (frame.scan_area, frame.spacing_mm) == ((20, 10, 120, 100), (0.1, 0.2))


def test_an_enhanced_volume_is_named() -> None:
    with pytest.raises(FrameError, match=r"Enhanced US Volume.*Export the planes"):
        read_frames("enhanced_us_volume.dcm")


def assert_note(frame: Frame, note: str) -> None:
    assert (not note and not frame.notes) or any(note in text for text in frame.notes if note)
