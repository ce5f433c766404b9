"""DICOM uploads: every kind of pixel gives the frame it shows; what lies, or is no ultrasound, is refused."""

import io
import shutil
import struct
import subprocess
import time
import tracemalloc
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Sequence, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import convert_color_space

from service.cine import open_cine
from service.dicom.cine import LIMIT_FRAMES, LIMIT_READS
from service.errors import FrameError
from service.frame import Area, Frame
from tests.dicoms import compressed, region, ultrasound, written


def frames(data: bytes) -> list[Frame]:
    cine = open_cine(io.BytesIO(data))
    decoded = [cine.decode(encoded, index) for index, encoded in enumerate(cine.encoded())]
    assert len(decoded) == cine.count
    for index, frame in enumerate(decoded):
        assert np.array_equal(cine.decode(cine.encoded_at(index), index).pixels, frame.pixels)
        assert frame.index == index
    return decoded


def refused(data: bytes, status: int, code: str) -> str:
    with pytest.raises(FrameError) as fault:
        frames(data)
    assert (fault.value.status, fault.value.code) == (status, code), fault.value.message
    return fault.value.message


@pytest.fixture
def grey(speckle) -> np.ndarray:
    return speckle(1, 100, 120)


@pytest.fixture
def cine(speckle) -> np.ndarray:
    return np.stack([speckle(seed, 64, 80) for seed in range(3)])


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
    "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_gdcm_KY.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_pydicoms_own_examples_are_read(name) -> None:
    assert all(frame.pixels.any() for frame in frames(Path(get_testdata_file(name)).read_bytes()))


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


# What is refused


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"Modality": "IVUS"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.CTImageStorage, "Modality": "CT"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "CR"}, 422, "not_ultrasound"),
        ({"Rows": 0}, 422, "no_pixels"),
        ({"Rows": 8, "Columns": 8}, 422, "too_small"),
        ({"Rows": 65535, "Columns": 65535}, 413, "too_many_pixels"),
        ({"NumberOfFrames": 1_000_000}, 413, "too_many_frames"),
        ({"NumberOfFrames": LIMIT_FRAMES}, 400, "malformed"),
        ({"NumberOfFrames": -1}, 400, "malformed"),
        ({"Rows": 101}, 400, "malformed"),
        ({"BitsAllocated": 32, "BitsStored": 32}, 422, "pixel_type"),
        ({"BitsAllocated": 1, "BitsStored": 1}, 422, "pixel_type"),
        ({"SamplesPerPixel": 4}, 422, "pixel_type"),
        ({"PhotometricInterpretation": "NONSENSE"}, 400, "malformed"),
        ({"BitsStored": 0}, 400, "malformed"),
        ({"BitsStored": 99}, 400, "malformed"),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit(grey, changed, status, code) -> None:
    refused(written(ultrasound(grey, **changed)), status, code)


def test_without_pixels(grey) -> None:
    made = ultrasound(grey)
    del made.PixelData
    refused(written(made), 422, "no_pixels")


@pytest.mark.parametrize("compressed", [False, True])
def test_cut_anywhere_it_is_refused_or_whole(cine, compressed) -> None:
    made = ultrasound(cine)
    if compressed:
        made.compress(uid.RLELossless, generate_instance_uid=False)
    data = written(made)
    for end in [*range(132, 1200, 7), *range(1200, len(data) - 8, 997)]:
        with pytest.raises(FrameError) as fault:
            frames(data[:end])
        assert fault.value.status in (400, 422), (end, fault.value.message)


def test_a_length_that_lies(grey) -> None:
    data = bytearray(written(ultrasound(grey)))
    at = data.index(b"\xe0\x7f\x10\x00OB\0\0") + 8
    struct.pack_into("<L", data, at, 0xFFFFFFF0)
    assert np.array_equal(frames(bytes(data))[0].pixels, grey)  # more is declared than is needed, and all is there
    struct.pack_into("<L", data, at, 10)
    refused(bytes(data), 400, "malformed")


def test_a_codestream_of_another_size_is_not_decoded(cine) -> None:
    made = ultrasound(cine)
    made.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    data = bytearray(written(made))
    at = data.index(b"\xff\xf7") + 5
    struct.pack_into(">HH", data, at, 60000, 60000)
    assert "another size" in refused(bytes(data), 400, "malformed")


@pytest.fixture
def borderless(cine) -> bytes:
    """Two fragments to a frame, and nothing that tells which."""
    made = ultrasound(cine)
    made.compress(uid.RLELossless, generate_instance_uid=False)
    coded = list(generate_frames(made.PixelData, number_of_frames=3))
    made.PixelData = encapsulate(coded, fragments_per_frame=2, has_bot=False)
    return written(made)


def test_frames_without_borders_are_refused(borderless, segmenter) -> None:
    opened = open_cine(io.BytesIO(borderless))
    for index in (1, 2):
        with pytest.raises(FrameError) as fault:
            segmenter.see(opened, index)
        assert (fault.value.status, fault.value.code) == (400, "malformed")
    *_, last = chain.from_iterable(segmenter.see_all(opened))  # what is missing is not passed over in silence
    assert "3 frame(s)" in last.fault.message


@pytest.mark.parametrize("syntax", [uid.DeflatedExplicitVRLittleEndian, uid.MPEG4HP41], ids=lambda syntax: syntax.name)
def test_other_transfer_syntaxes_are_named(grey, syntax) -> None:
    made = ultrasound(grey)
    made.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        made.PixelData = encapsulate([b"a film"])
        made["PixelData"].is_undefined_length = True
    assert syntax.name in refused(written(made), 422, "transfer_syntax")


def test_a_header_of_a_million_parts_ends_soon_and_small(grey) -> None:
    made = written(ultrasound(grey))
    at = made.index(b"\x08\x00\x16\x00")  # the SOP class, the first element behind the group 2
    element = struct.pack("<HH2sH", 9, 0x1001, b"LO", 0)
    bomb = made[:at] + element * (2 * LIMIT_READS) + made[at:]
    tracemalloc.start()
    start = time.perf_counter()
    refused(bomb, 413, "header")
    assert time.perf_counter() - start < 15
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()


def test_sequences_nested_without_end(grey) -> None:
    made = written(ultrasound(grey))
    at = made.index(b"\x08\x00\x16\x00")
    deeper = struct.pack("<HH2s2xL", 9, 0x1001, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(FrameError) as fault:
        frames(made[:at] + deeper * 5000 + made[at:])
    assert fault.value.status in (400, 413, 422)
