"""The scan area, spacing and frame rate of DICOM frames."""

import numpy as np
import pytest
from pydicom import Dataset, Sequence

from service.decoding.cropping import Box
from service.decoding.frame import Frame
from tests.dicoms import decode_frames, make_region, make_ultrasound, to_bytes


def frame_with(pixels: np.ndarray, *regions: Dataset, **attributes) -> Frame:
    """Return the frame of a file with these ultrasound regions."""
    dataset = make_ultrasound(pixels, SequenceOfUltrasoundRegions=Sequence(regions), **attributes)
    return decode_frames(to_bytes(dataset))[0]


@pytest.mark.parametrize(
    ("attributes", "rate_hz"),
    [
        ({}, 30.03),  # FrameTime 33.3 ms
        ({"CineRate": 25}, 25.0),
        ({"CineRate": 25, "RecommendedDisplayFrameRate": 12}, 12.0),
        ({"FrameTime": 0}, None),
        ({"FrameTime": -33.3}, None),
        ({"CineRate": 0}, 30.03),
        ({"FrameTime": None, "FrameTimeVector": [0, 40, 60]}, 20.0),
        ({"FrameTime": None, "FrameTimeVector": 0}, None),
    ],
    ids=str,
)
def test_the_frame_rate_follows_from_the_header(cine, attributes, rate_hz) -> None:
    assert decode_frames(to_bytes(make_ultrasound(cine, **attributes)))[0].frame_rate_hz == rate_hz


def test_the_region_is_the_scan_area_and_gives_the_spacing(grey) -> None:
    frame = frame_with(grey, make_region(20, 10, 99, 89))
    assert frame.scan_area == Box(20, 10, 80, 80)
    assert frame.spacing_mm == (0.1, 0.2)
    assert np.array_equal(frame.scan_pixels, grey[10:90, 20:100])


def test_the_largest_region_of_tissue_is_the_scan_area(grey) -> None:
    frame = frame_with(
        grey,
        make_region(0, 0, 119, 99, RegionDataType=2),  # colour flow
        make_region(0, 0, 119, 99, RegionSpatialFormat=3),  # a waveform
        make_region(0, 0, 39, 39),
        make_region(40, 40, 119, 99),
    )
    assert frame.scan_area == Box(40, 40, 80, 60)
    assert "2 scan areas" in frame.notes[0]


@pytest.mark.parametrize(
    ("region", "scan_area"),
    [
        (make_region(5, 6, 500, 500), Box(5, 6, 115, 94)),  # clipped to the frame
        (make_region(90, 90, 10, 10), None),
        (make_region(500, 500, 600, 600), None),
    ],
    ids=["partly outside", "exchanged corners", "outside"],
)
def test_a_region_outside_the_frame_is_clipped_or_ignored_with_a_note(grey, region, scan_area) -> None:
    frame = frame_with(grey, region)
    assert frame.scan_area == scan_area
    assert bool(frame.notes) is (scan_area is None)


def test_a_region_without_a_corner_is_ignored_with_a_note(grey) -> None:
    region = make_region(1, 1, 50, 50)
    del region.RegionLocationMaxX1
    frame = frame_with(grey, region)
    assert frame.scan_area is None
    assert "malformed" in frame.notes[0]


def test_the_spacing_is_unknown_if_a_unit_is_not_centimetres(grey) -> None:
    assert frame_with(grey, make_region(0, 0, 99, 99, PhysicalUnitsXDirection=4)).spacing_mm is None


@pytest.mark.parametrize("delta", [0.0, float("nan"), float("inf"), None])
def test_a_spacing_that_makes_no_sense_has_a_note(grey, delta) -> None:
    frame = frame_with(grey, make_region(20, 10, 99, 89, PhysicalDeltaX=delta))
    assert (frame.scan_area, frame.spacing_mm) == (Box(20, 10, 80, 80), None)
    assert "of a region is malformed" in frame.notes[0]


@pytest.mark.parametrize("spacing", [[0, 0.3], [-0.3, 0.3]])
def test_a_pixel_spacing_that_makes_no_sense_has_a_note(grey, spacing) -> None:
    frame = frame_with(grey, PixelSpacing=spacing)
    assert frame.spacing_mm is None
    assert "Pixel Spacing (0028,0030) is malformed" in frame.notes[0]


def test_without_a_region_the_spacing_is_pixel_spacing(grey) -> None:
    assert frame_with(grey, PixelSpacing=[0.3, 0.4]).spacing_mm == (0.4, 0.3)  # the header holds the rows' first


def test_only_the_scan_area_is_segmented(segmenter, grey) -> None:
    with_banner = grey.copy()
    with_banner[:10] = 255  # as bright as a nerve is to the tiny network
    mask = segmenter.segment(frame_with(with_banner, make_region(20, 10, 99, 89))).mask
    expected = segmenter.segment(Frame(np.ascontiguousarray(grey[10:90, 20:100]))).mask
    assert mask.shape == grey.shape
    assert expected.any()
    assert np.array_equal(mask[10:90, 20:100], expected)
    mask[10:90, 20:100] = 0
    assert not mask.any()
