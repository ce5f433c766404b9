"""dciodvfy finds no error in a DICOM Segmentation, whatever the header of its source is like."""

import io
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from service.decoding.cine import open_cine
from service.model.card import Card
from service.rendering.dicom_segmentation import build_dicom_segmentation
from service.rendering.dicom_segmentation_source import invalid_value_notes
from service.request_state import AnswerSettings
from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.service.rendering.segmentations import (
    CHARACTER_SETS,
    asymmetric_mask,
    build,
    read_header,
    ultrasound_of_patient,
)

needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")

CASES = Path(__file__).parents[2] / "cases"


def errors_of_dciodvfy(path: Path) -> list[str]:
    lines = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True).stderr.splitlines()
    assert "Segmentation" in lines  # the kind of object that dciodvfy checks
    return [line for line in lines if line.startswith("Error")]


def make_sources(folder: Path) -> dict[str, bytes]:
    """Return ultrasound files by name: with usual and odd headers, pydicom's examples, and files that dcmtk writes.

    The retired multi-frame class has a test of its own.
    """
    grey = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (4, 64, 80), np.uint8), (5, 5), 0)
    files = {
        "frame": to_bytes(make_ultrasound(grey[0])),
        "cine": to_bytes(make_ultrasound(grey)),
        "retired": to_bytes(make_ultrasound(grey[0], SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.6"))),
        "region": to_bytes(make_ultrasound(grey[0], SequenceOfUltrasoundRegions=Sequence([make_region(4, 4, 60, 50)]))),
        "minimal": to_bytes(minimal(make_ultrasound(grey[0]))),
        "odd values": to_bytes(make_ultrasound(grey[0], PatientSex="X", StudyTime="14:04:38", StudyDate="1997.04.24")),
        "lossy": to_bytes(make_ultrasound(grey[0], LossyImageCompression="01")),
        "spacing": to_bytes(make_ultrasound(grey[0], PixelSpacing=[0.1, 0.2])),
        **{f"in {charset}": to_bytes(ultrasound_of_patient(name, charset)) for charset, name in CHARACTER_SETS},
    }
    for name in ("examples_ybr_color", "examples_rgb_color", "examples_palette", "examples_jpeg2k", "ExplVR_BigEnd",
                 "SC_rgb_rle_2frame", "SC_rgb_jpeg_dcmtk", "SC_ybr_full_422_uncompressed"):  # fmt: skip
        files[name] = Path(get_testdata_file(f"{name}.dcm")).read_bytes()
    if shutil.which("dcmcjpeg"):
        (folder / "cine.dcm").write_bytes(files["cine"])
        for command in (["dcmcjpeg", "+eb"], ["dcmcrle"]):
            subprocess.run([*command, folder / "cine.dcm", folder / "out.dcm"], check=True)
            files[command[0]] = (folder / "out.dcm").read_bytes()
        cv2.imwrite(str(folder / "a.jpg"), grey[0])
        subprocess.run(["img2dcm", folder / "a.jpg", folder / "a.dcm"], check=True)
        files["img2dcm"] = (folder / "a.dcm").read_bytes()
    return files


def minimal(dataset: Dataset) -> Dataset:
    """Return the dataset without the elements that its frames do not need."""
    for keyword in ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID",
                    "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber"):  # fmt: skip
        del dataset[keyword]
    return dataset


@pytest.mark.slow
@needs_dciodvfy
def test_dciodvfy_finds_no_error(card, tmp_path) -> None:
    for name, data in make_sources(tmp_path).items():
        header = read_header(data)
        path = tmp_path / "seg.dcm"
        masks = [asymmetric_mask(header.Rows, header.Columns)] * int(header.get("NumberOfFrames") or 1)
        path.write_bytes(build_dicom_segmentation(header, masks, card))
        assert errors_of_dciodvfy(path) == [], name


@needs_dciodvfy
@pytest.mark.parametrize("frames", [1, 3])
def test_dciodvfy_finds_no_error_in_a_segmentation_with_outlines(outlines_model_folder, tmp_path, frames) -> None:
    card = Card.read(outlines_model_folder)
    source = make_ultrasound(np.zeros((frames, 64, 80) if frames > 1 else (64, 80), np.uint8))
    masks = [asymmetric_mask(64, 80, shift) for shift in range(3 * frames)]
    path = tmp_path / "seg.dcm"
    header, settings = read_header(to_bytes(source)), AnswerSettings(outlines=True)
    path.write_bytes(build_dicom_segmentation(header, masks, card, settings, {0: ("a note",)}))
    assert errors_of_dciodvfy(path) == []


@needs_dciodvfy
def test_for_the_retired_multi_frame_class_dciodvfy_reports_only_frame_numbers(card, tmp_path) -> None:
    """dciodvfy does not know that this class has several frames, to which a segmentation may refer by number."""
    source = make_ultrasound(np.zeros((3, 64, 80), np.uint8), SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.3"))
    path = tmp_path / "seg.dcm"
    path.write_bytes(build_dicom_segmentation(read_header(to_bytes(source)), [asymmetric_mask(64, 80)] * 3, card))
    errors = errors_of_dciodvfy(path)
    assert [error for error in errors if "ReferencedFrameNumber" in error and "not multi-frame" in error] == errors


@needs_dciodvfy
def test_dciodvfy_finds_an_error_of_an_invalid_segmentation(card, tmp_path) -> None:
    source = make_ultrasound(np.zeros((40, 48), np.uint8))
    segmentation = build(source, [asymmetric_mask(40, 48)], card)
    del segmentation.SegmentSequence[0].SegmentAlgorithmType
    segmentation.save_as(tmp_path / "seg.dcm")
    assert errors_of_dciodvfy(tmp_path / "seg.dcm")


@needs_dciodvfy
@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("series_number_huge.dcm", "SeriesNumber is not valid"),
        ("series_number_text.dcm", "SeriesNumber is not valid"),
        ("charset_says_utf8_is_latin1.dcm", ""),
        ("pixelspacing_comma.dcm", ""),
        ("native_frames_missing_tag.dcm", ""),
    ],
)
def test_values_that_are_not_valid_are_left_out_with_a_note(card, tmp_path, name, note) -> None:
    cine = open_cine(io.BytesIO((CASES / name).read_bytes()))
    masks = [np.zeros((120, 160), np.uint8)] * cine.frame_count
    (tmp_path / "seg.dcm").write_bytes(build_dicom_segmentation(cine.header, masks, card))
    assert errors_of_dciodvfy(tmp_path / "seg.dcm") == []
    notes = invalid_value_notes(cine.header)
    assert (not notes) if not note else note in notes[0]


def test_a_uid_that_is_not_valid_is_repeated_with_a_note(card) -> None:
    """The segmentation could not refer to its source otherwise."""
    ultrasound = make_ultrasound(np.zeros((120, 160), np.uint8), SOPInstanceUID="1.2.A")
    header = read_header(to_bytes(ultrasound))
    assert any("SOPInstanceUID is not valid" in note for note in invalid_value_notes(header))
    segmentation = build(header, [np.zeros((120, 160), np.uint8)], card)
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.A"
