"""DICOM pixels of every kind become the grey values that a viewer shows."""

import cv2
import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.pixels.processing import convert_color_space

from tests.dicoms import decode_frames, make_ultrasound, to_bytes


def decode_one(dataset: Dataset) -> np.ndarray:
    """Return the pixels of the file's first frame, uint8 or uint16 (rows, columns)."""
    return decode_frames(to_bytes(dataset))[0].pixels


def test_grey_pixels_stay_as_they_are(grey) -> None:
    assert np.array_equal(decode_one(make_ultrasound(grey)), grey)


def test_monochrome1_is_inverted(grey) -> None:
    assert np.array_equal(decode_one(make_ultrasound(255 - grey, PhotometricInterpretation="MONOCHROME1")), grey)


def test_sixteen_bits_keep_their_depth_and_twelve_bits_are_stretched(grey) -> None:
    sixteen_bits = grey.astype(np.uint16) * 257
    assert np.array_equal(decode_one(make_ultrasound(sixteen_bits)), sixteen_bits)
    stretched = decode_one(make_ultrasound(np.array(sixteen_bits >> 4), BitsStored=12, HighBit=11))
    assert stretched.dtype == np.uint16
    assert np.abs(stretched.astype(int) - sixteen_bits).max() <= 16


def test_signed_pixels_are_shifted(grey) -> None:
    signed = (grey.astype(np.int32) * 256 - 32768).astype(np.int16)
    pixels = decode_one(make_ultrasound(signed.view(np.uint16), PixelRepresentation=1))
    assert np.abs(pixels.astype(int) - grey.astype(int) * 256).max() <= 1


def test_a_window_is_applied(grey) -> None:
    pixels = decode_one(make_ultrasound(grey, WindowCenter=100, WindowWidth=50))
    assert not pixels[grey < 74].any()
    assert (pixels[grey > 126] == 255).all()


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.int8), (12, np.int16), (16, np.int16)])
def test_a_window_on_signed_pixels(grey, bits, dtype) -> None:
    """The linear window function of PS3.3 C.11.2.1.2.1, computed here from the formula."""
    unit = 2.0 ** (bits - 8)
    signed = ((grey.astype(float) - 128) * unit).astype(dtype)
    centre, width = -20 * unit, 60 * unit
    attributes = {"PixelRepresentation": 1, "BitsStored": bits, "HighBit": bits - 1}
    stored = signed.view(f"u{signed.itemsize}")
    pixels = decode_one(make_ultrasound(stored, **attributes, WindowCenter=centre, WindowWidth=width))
    expected = np.clip((signed - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * (255 if bits == 8 else 65535)
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_lookup_table_has_a_depth_of_its_own(grey, signed) -> None:
    first = -2048 if signed else 0
    stored = (grey.astype(np.int16) << 4) + first
    table = Dataset()
    table.LUTDescriptor = [4096, first, 16]
    table.add_new("LUTData", "US", [65535 - (value >> 4) * 257 for value in range(4096)])
    attributes = {"PixelRepresentation": int(signed), "BitsStored": 12, "HighBit": 11}
    pixels = decode_one(make_ultrasound(stored.view(np.uint16), **attributes, VOILUTSequence=Sequence([table])))
    assert np.array_equal(pixels, 65535 - grey.astype(int) * 257)


def test_colour_becomes_the_same_grey_as_in_a_png(speckle) -> None:
    rgb = np.dstack([speckle(seed, 64, 80) for seed in range(3)])
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    frames = rgb[np.newaxis]
    assert np.array_equal(decode_one(make_ultrasound(frames)), expected)
    planar = make_ultrasound(frames, PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes())
    assert np.array_equal(decode_one(planar), expected)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    from_ybr = decode_one(make_ultrasound(ybr[np.newaxis], PhotometricInterpretation="YBR_FULL"))
    assert np.abs(from_ybr.astype(int) - expected).max() <= 2


def test_a_palette_is_applied(grey) -> None:
    dataset = make_ultrasound(grey, PhotometricInterpretation="PALETTE COLOR")
    inverted = (np.arange(256)[::-1] * 257).astype("<u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", inverted)
    assert np.array_equal(decode_one(dataset), 255 - grey)
