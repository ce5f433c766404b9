"""The frames of DICOM files, uncompressed and compressed; GDCM and dcmtk decode the same pixels."""

import shutil
import subprocess
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file

from tests.dicoms import decode_frames, make_compressed_ultrasound, make_ultrasound, to_bytes

LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]
EXAMPLES = [
    "examples_ybr_color.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_gdcm_KY.dcm",
]  # fmt: skip
GDCM_MISREADS = ["SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm"]


def needs_dcmtk(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason="dcmtk is not installed")


def pixels_of(data: bytes) -> np.ndarray:
    """Return (frames, rows, columns)."""
    return np.array([frame.pixels for frame in decode_frames(data)])


def test_a_cine_holds_its_frames_in_order(cine) -> None:
    assert np.array_equal(pixels_of(to_bytes(make_ultrasound(cine))), cine)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_compression_keeps_every_pixel(cine, syntax, bits) -> None:
    pixels = cine if bits == 8 else cine.astype(np.uint16) * 257
    assert np.array_equal(pixels_of(to_bytes(make_compressed_ultrasound(pixels, syntax))), pixels)


def test_the_retired_ultrasound_classes_are_read(grey, cine) -> None:
    for pixels, sop_class in ((grey, "1.2.840.10008.5.1.4.1.1.6"), (cine, "1.2.840.10008.5.1.4.1.1.3")):
        assert decode_frames(to_bytes(make_ultrasound(pixels, SOPClassUID=uid.UID(sop_class))))


def to_grey(colour: np.ndarray) -> np.ndarray:
    """Return float (rows, columns) of RGB (rows, columns, 3), with the weights of ITU-R BT.601."""
    return colour @ np.array([0.299, 0.587, 0.114])


def decode_with_gdcm(path: str) -> np.ndarray:
    """Return uint8 (frames, rows, columns, 3), RGB, of an 8-bit colour file."""
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    assert reader.Read()
    image = reader.GetImage()
    decompress = gdcm.ImageChangeTransferSyntax()
    decompress.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    apply_palette = gdcm.ImageApplyLookupTable()
    interleave = gdcm.ImageChangePlanarConfiguration()
    interleave.SetPlanarConfiguration(0)
    to_rgb = gdcm.ImageChangePhotometricInterpretation()
    to_rgb.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.RGB))
    for step, run in (
        (decompress, decompress.Change),
        (apply_palette, apply_palette.Apply),
        (interleave, interleave.Change),
        (to_rgb, to_rgb.Change),
    ):
        step.SetInput(image)
        image = step.GetOutput() if run() else image
    columns, rows, *frame_count = image.GetDimensions()
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    return np.frombuffer(raw, np.uint8).reshape(*(frame_count or [1]), rows, columns, 3)


@pytest.mark.parametrize("name", EXAMPLES)
def test_gdcm_decodes_the_same_pixels(name) -> None:
    path = get_testdata_file(name)
    frames, expected = decode_frames(Path(path).read_bytes()), decode_with_gdcm(path)
    assert len(frames) == len(expected)
    for index in (0, -1):
        assert np.abs(frames[index].pixels - to_grey(expected[index])).max() <= 2


@needs_dcmtk("dcmj2pnm")
@pytest.mark.parametrize("name", [*GDCM_MISREADS, *EXAMPLES[:3]])
def test_dcmtk_decodes_the_same_pixels(tmp_path, name) -> None:
    path = get_testdata_file(name)
    frames = decode_frames(Path(path).read_bytes())
    for number in (1, len(frames)):
        subprocess.run(["dcmj2pnm", "+F", str(number), "+op", path, tmp_path / "a.ppm"], check=True)
        expected = to_grey(cv2.imread(str(tmp_path / "a.ppm"))[..., ::-1])
        pixels = frames[number - 1].pixels
        assert np.abs(pixels / (257 if pixels.dtype == np.uint16 else 1) - expected).max() <= 2


@needs_dcmtk("dcmcjpeg")
@pytest.mark.parametrize(
    ("command", "max_mean_error"),
    [(["dcmcjpeg"], 0.001), (["dcmcjpeg", "+eb"], 2), (["dcmcrle"], 0.001)],
    ids=["lossless JPEG", "baseline JPEG", "RLE"],
)
def test_files_that_dcmtk_compresses_are_read(tmp_path, cine, command, max_mean_error) -> None:
    source, target = tmp_path / "source.dcm", tmp_path / "target.dcm"
    source.write_bytes(to_bytes(make_ultrasound(cine)))
    subprocess.run([*command, source, target], check=True)
    assert np.abs(pixels_of(target.read_bytes()).astype(int) - cine).mean() < max_mean_error


@needs_dcmtk("img2dcm")
def test_a_secondary_capture_of_img2dcm_is_read_with_a_note(tmp_path, grey) -> None:
    picture, target = str(tmp_path / "a.jpg"), tmp_path / "a.dcm"
    cv2.imwrite(picture, grey)
    subprocess.run(["img2dcm", picture, target], check=True)
    frame = decode_frames(target.read_bytes())[0]
    assert np.array_equal(frame.pixels, cv2.imread(picture, cv2.IMREAD_GRAYSCALE))
    assert "secondary capture" in frame.notes[0]
