"""DICOM uploads: every kind of pixel gives the frame it shows; a second reader agrees."""

import shutil
import subprocess
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pytest
from pydicom import Dataset, Sequence, uid
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import convert_color_space

from service.frame import Area, Frame
from tests.dicoms import compressed, frames, region, ultrasound, written


def test_a_grey_frame_is_its_pixels(grey) -> None:
    assert np.array_equal(frames(written(ultrasound(grey)))[0].pixels, grey)


def test_monochrome1_is_turned_round(grey) -> None:
    made = ultrasound(255 - grey, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(frames(written(made))[0].pixels, grey)


def test_sixteen_bits_keep_their_depth_and_twelve_are_stretched(grey) -> None:
    deep = grey.astype(np.uint16) * 257
    assert np.array_equal(frames(written(ultrasound(deep)))[0].pixels, deep)
    twelve = ultrasound(np.array(deep >> 4), BitsStored=12, HighBit=11)
    found = frames(written(twelve))[0].pixels
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - deep).max() <= 16


def test_signed_pixels_are_shifted(grey) -> None:
    made = ultrasound((grey.astype(np.int32) * 256 - 32768).astype(np.int16).view(np.uint16), PixelRepresentation=1)
    assert np.abs(frames(written(made))[0].pixels.astype(int) - grey.astype(int) * 256).max() <= 1


def test_a_window_shows_what_a_viewer_would(grey) -> None:
    found = frames(written(ultrasound(grey, WindowCenter=100, WindowWidth=50)))[0].pixels
    assert not found[grey < 74].any()
    assert (found[grey > 126] == 255).all()


@pytest.mark.parametrize(("bits", "kind"), [(8, np.int8), (12, np.int16), (16, np.int16)])
def test_a_window_on_signed_pixels(grey, bits, kind) -> None:
    """The formula of PS3.3 C.11.2.1.2.1, written down once more: from black to the brightest."""
    unit = 2.0 ** (bits - 8)
    signed = ((grey.astype(float) - 128) * unit).astype(kind)
    centre, width = -20 * unit, 60 * unit
    told = {"PixelRepresentation": 1, "BitsStored": bits, "HighBit": bits - 1}
    made = ultrasound(signed.view(f"u{signed.itemsize}"), **told, WindowCenter=centre, WindowWidth=width)
    expected = np.clip((signed - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * (255 if bits == 8 else 65535)
    assert np.abs(frames(written(made))[0].pixels - expected).max() <= 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_lookup_table_has_a_depth_of_its_own(grey, signed) -> None:
    first = -2048 if signed else 0
    stored = (grey.astype(np.int16) << 4) + first
    table = Dataset()
    table.LUTDescriptor = [4096, first, 16]
    table.add_new("LUTData", "US", [65535 - (value >> 4) * 257 for value in range(4096)])
    told = {"PixelRepresentation": int(signed), "BitsStored": 12, "HighBit": 11}
    made = ultrasound(stored.view(np.uint16), **told, VOILUTSequence=Sequence([table]))
    assert np.array_equal(frames(written(made))[0].pixels, 65535 - grey.astype(int) * 257)


def test_colour_becomes_grey_as_in_a_png(speckle) -> None:
    rgb = np.dstack([speckle(seed, 64, 80) for seed in range(3)])
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(frames(written(ultrasound(rgb[np.newaxis])))[0].pixels, expected)
    planar = ultrasound(rgb[np.newaxis], PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes())
    assert np.array_equal(frames(written(planar))[0].pixels, expected)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    full = ultrasound(ybr[np.newaxis], PhotometricInterpretation="YBR_FULL")
    assert np.abs(frames(written(full))[0].pixels.astype(int) - expected).max() <= 2


def test_a_palette_gives_its_colours(grey) -> None:
    made = ultrasound(grey, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{colour}PaletteColorLookupTableData", (np.arange(256)[::-1] * 257).astype("<u2").tobytes())
    assert np.array_equal(frames(written(made))[0].pixels, 255 - grey)


def test_a_cine_is_its_frames(cine) -> None:
    assert np.array_equal([frame.pixels for frame in frames(written(ultrasound(cine)))], cine)


LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_without_loss_is_the_same_cine(cine, syntax, bits) -> None:
    pixels = cine if bits == 8 else cine.astype(np.uint16) * 257
    assert np.array_equal([frame.pixels for frame in frames(written(compressed(pixels, syntax)))], pixels)


def test_the_old_classes_are_read(grey, cine) -> None:
    for pixels, retired in ((grey, "1.2.840.10008.5.1.4.1.1.6"), (cine, "1.2.840.10008.5.1.4.1.1.3")):
        assert frames(written(ultrasound(pixels, SOPClassUID=uid.UID(retired))))


EXAMPLES = [
    "examples_ybr_color.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_gdcm_KY.dcm",
]  # fmt: skip


def in_grey(colour: np.ndarray) -> np.ndarray:
    """float (rows, columns) of (rows, columns, 3), by the weights of ITU-R BT.601."""
    return colour @ np.array([0.299, 0.587, 0.114])


def by_gdcm(path: str) -> np.ndarray:
    """uint8 (frames, rows, columns, 3), R, G and B, of a colour file of 8 bits."""
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    assert reader.Read()
    image = reader.GetImage()
    plain, table, planar, rgb = (
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageApplyLookupTable(),
        gdcm.ImageChangePlanarConfiguration(),
        gdcm.ImageChangePhotometricInterpretation(),
    )
    plain.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    planar.SetPlanarConfiguration(0)
    rgb.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.RGB))
    for step, change in ((plain, plain.Change), (table, table.Apply), (planar, planar.Change), (rgb, rgb.Change)):
        step.SetInput(image)
        image = step.GetOutput() if change() else image
    columns, rows, *count = image.GetDimensions()
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    return np.frombuffer(raw, np.uint8).reshape(*(count or [1]), rows, columns, 3)


@pytest.mark.parametrize("name", EXAMPLES)
def test_gdcm_sees_the_same_in_pydicoms_own_examples(name) -> None:
    path = get_testdata_file(name)
    found, expected = frames(Path(path).read_bytes()), by_gdcm(path)
    assert len(found) == len(expected)
    for index in (0, -1):
        assert np.abs(found[index].pixels - in_grey(expected[index])).max() <= 2


@pytest.mark.skipif(not shutil.which("dcmj2pnm"), reason="dcmtk is not installed")
@pytest.mark.parametrize("name", ["SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm", *EXAMPLES[:3]])
def test_dcmtk_sees_the_same_in_pydicoms_own_examples(tmp_path, name) -> None:
    """The first two GDCM takes for what they are not."""
    path = get_testdata_file(name)
    found = frames(Path(path).read_bytes())
    for number in (1, len(found)):
        subprocess.run(["dcmj2pnm", "+F", str(number), "+op", path, tmp_path / "a.ppm"], check=True)
        expected = in_grey(cv2.imread(str(tmp_path / "a.ppm"))[..., ::-1])
        pixels = found[number - 1].pixels
        assert np.abs(pixels / (257 if pixels.dtype == np.uint16 else 1) - expected).max() <= 2


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmtk is not installed")
@pytest.mark.parametrize("command", [["dcmcjpeg"], ["dcmcjpeg", "+eb"], ["dcmcrle"]], ids=" ".join)
def test_what_dcmtk_compresses_is_read(tmp_path, cine, command) -> None:
    source, target = tmp_path / "source.dcm", tmp_path / "target.dcm"
    source.write_bytes(written(ultrasound(cine)))
    subprocess.run([*command, source, target], check=True)
    found = [frame.pixels.astype(int) for frame in frames(target.read_bytes())]
    assert np.abs(np.array(found) - cine).mean() < (2 if "+eb" in command else 0.001)


@pytest.mark.skipif(not shutil.which("img2dcm"), reason="dcmtk is not installed")
def test_what_img2dcm_makes_is_read_with_a_note(tmp_path, grey) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), grey)
    subprocess.run(["img2dcm", tmp_path / "a.jpg", tmp_path / "a.dcm"], check=True)
    frame = frames((tmp_path / "a.dcm").read_bytes())[0]
    assert np.array_equal(frame.pixels, cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_GRAYSCALE))
    assert "secondary capture" in frame.notes[0]


# The scan area


@pytest.mark.parametrize(
    ("told", "rate"),
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
)
def test_a_cine_tells_its_rate(cine, told, rate) -> None:
    assert frames(written(ultrasound(cine, **told)))[0].rate == rate


def test_the_region_is_the_scan_area_and_gives_the_spacing(grey) -> None:
    made = ultrasound(grey, SequenceOfUltrasoundRegions=Sequence([region(20, 10, 99, 89)]))
    frame = frames(written(made))[0]
    assert frame.area == Area(20, 10, 80, 80)
    assert frame.spacing == (0.1, 0.2)
    assert np.array_equal(frame.scan, grey[10:90, 20:100])


def test_of_several_regions_the_largest_of_tissue_is_taken(grey) -> None:
    regions = [
        region(0, 0, 119, 99, RegionDataType=2),  # colour flow
        region(0, 0, 119, 99, RegionSpatialFormat=3),  # a waveform
        region(0, 0, 39, 39),
        region(40, 40, 119, 99),
    ]
    frame = frames(written(ultrasound(grey, SequenceOfUltrasoundRegions=Sequence(regions))))[0]
    assert frame.area == Area(40, 40, 80, 60)
    assert "2 scan areas" in frame.notes[0]


@pytest.mark.parametrize(
    ("given", "area"),
    [
        (region(5, 6, 500, 500), Area(5, 6, 115, 94)),  # what leaves the frame is cut
        (region(90, 90, 10, 10), None),
        (region(500, 500, 600, 600), None),
    ],
)
def test_a_region_off_the_frame(grey, given, area) -> None:
    frame = frames(written(ultrasound(grey, SequenceOfUltrasoundRegions=Sequence([given]))))[0]
    assert frame.area == area
    assert bool(frame.notes) is (area is None)


def test_a_region_without_its_corners_is_told(grey) -> None:
    broken = region(1, 1, 50, 50)
    del broken.RegionLocationMaxX1
    frame = frames(written(ultrasound(grey, SequenceOfUltrasoundRegions=Sequence([broken]))))[0]
    assert frame.area is None
    assert "malformed" in frame.notes[0]


def test_spacing_in_other_units_is_none(grey) -> None:
    made = ultrasound(grey, SequenceOfUltrasoundRegions=Sequence([region(0, 0, 99, 99, PhysicalUnitsXDirection=4)]))
    assert frames(written(made))[0].spacing is None


def test_nothing_outside_the_scan_area_is_segmented(segmenter, grey) -> None:
    banner = grey.copy()
    banner[:10] = 255  # as bright as a nerve is to the tiny network
    made = ultrasound(banner, SequenceOfUltrasoundRegions=Sequence([region(20, 10, 99, 89)]))
    frame = frames(written(made))[0]
    mask = segmenter.segment(frame).mask
    assert mask.shape == grey.shape
    alone = segmenter.segment(Frame(np.ascontiguousarray(grey[10:90, 20:100]))).mask
    assert alone.any()
    assert np.array_equal(mask[10:90, 20:100], alone)
    mask[10:90, 20:100] = 0
    assert not mask.any()
