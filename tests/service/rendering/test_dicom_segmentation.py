"""The DICOM Segmentation is valid, refers to its source, and holds exactly the masks, as other libraries read them."""

import io
import logging
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from service.decoding.cine import open_cine
from service.errors import FrameError
from service.model.card import Card
from service.rendering.dicom_segmentation import build_dicom_segmentation
from service.rendering.dicom_segmentation_source import dropped_value_notes
from service.rendering.run_lengths import encode_run_lengths
from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.run_lengths import decode_run_lengths

needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmdump"), reason="dcmtk is not installed")


CASES = Path(__file__).parents[2] / "cases"


def read_header(data: bytes) -> Dataset:
    return open_cine(io.BytesIO(data)).header


def build(source: Dataset, masks: Iterable[np.ndarray], card: Card) -> Dataset:
    """Return the segmentation as pydicom reads it."""
    return dcmread(io.BytesIO(build_dicom_segmentation(source, masks, card)))


def asymmetric_mask(rows: int, columns: int, shift: int = 0) -> np.ndarray:
    """Return an L near the upper left corner: every flip, rotation or transposition changes it."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[3:20, 5 + shift : 9 + shift] = 255
    mask[16:20, 5 + shift : 30 + shift] = 255
    return mask


def read_with_gdcm(path: Path) -> np.ndarray:
    """Return uint8 (frames, rows, columns), 0 or 1."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    columns, rows, *frame_count = image.GetDimensions()
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    frames = frame_count[0] if frame_count else 1
    return bits[: frames * rows * columns].reshape(frames, rows, columns)


@pytest.mark.parametrize("shape", [(41, 53), (5, 64, 80), (9, 31, 37), (1, 40, 48)], ids=str)
def test_gdcm_and_pydicom_read_the_masks(card, tmp_path, shape) -> None:
    """(9, 31, 37): the bits of a frame do not end at the end of a byte."""
    source = make_ultrasound(np.zeros(shape, np.uint8))
    masks = np.stack([asymmetric_mask(*shape[-2:], shift=index) for index in range(shape[0] if len(shape) == 3 else 1)])
    path = tmp_path / "seg.dcm"
    path.write_bytes(build_dicom_segmentation(source, masks, card))
    assert np.array_equal(read_with_gdcm(path) * 255, masks)
    assert np.array_equal(dcmread(path).pixel_array.reshape(masks.shape) * 255, masks)


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(16, 24), st.integers(16, 24)),
        elements=st.sampled_from([0, 255]),
    )
)
def test_run_lengths_and_segmentation_hold_the_same_pixels(card, masks) -> None:
    segmentation = build(make_ultrasound(masks), masks, card)
    for mask, pixels in zip(masks, segmentation.pixel_array.reshape(masks.shape), strict=True):
        assert np.array_equal(decode_run_lengths(encode_run_lengths(mask), mask.shape), pixels * 255)


def test_patient_and_study_are_those_of_the_source(card) -> None:
    source = make_ultrasound(np.zeros((3, 40, 48), np.uint8), FrameOfReferenceUID="1.2.3.4")
    segmentation = build(source, [asymmetric_mask(40, 48)] * 3, card)
    copied = (
        "PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyTime",
        "StudyID", "AccessionNumber", "ReferringPhysicianName",
    )  # fmt: skip
    assert {name: segmentation[name].value for name in copied} == {name: source[name].value for name in copied}
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    for number, groups in enumerate(segmentation.PerFrameFunctionalGroupsSequence, 1):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        assert image.ReferencedFrameNumber == number
        assert image.SpatialLocationsPreserved == "YES"
    assert "FrameOfReferenceUID" not in segmentation


def test_the_segment_names_the_algorithm_and_the_nerve(card) -> None:
    source = make_ultrasound(np.zeros((40, 48), np.uint8))
    segment = build(source, [asymmetric_mask(40, 48)], card).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (card.name, card.version)
    assert card.run_id in algorithm.AlgorithmParameters
    property_type = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (property_type.CodeValue, property_type.CodingSchemeDesignator) == ("3057000", "SCT")
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"


def test_uids_depend_only_on_the_source_and_the_model_run(card) -> None:
    source, masks = make_ultrasound(np.zeros((40, 48), np.uint8)), [asymmetric_mask(40, 48)]
    other_run = replace(card, run_id="another")
    first, second, other = (build(source, masks, model).SOPInstanceUID for model in (card, card, other_run))
    assert first == second != other


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_without_a_uid_is_refused(card, missing) -> None:
    source = make_ultrasound(np.zeros((40, 48), np.uint8))
    del source[missing]
    with pytest.raises(FrameError, match=missing):
        build_dicom_segmentation(source, [asymmetric_mask(40, 48)], card)


@pytest.mark.parametrize(
    ("valid", "damaged"),
    [
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00LM"),  # the value representation of the patient's ID
        (b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00U\x80"),  # that of the instance's UID
    ],
)
def test_a_damaged_header_of_readable_frames_is_refused(card, valid, damaged, caplog) -> None:
    """Fuzzing found these: elements that the frames do not need, but a segmentation does.

    The log names the cause without its message, which may quote the header.
    """
    data = to_bytes(make_ultrasound(np.zeros((64, 80), np.uint8)))
    assert data.count(valid) == 1
    with pytest.raises(FrameError) as error, caplog.at_level(logging.INFO, "bentoml.nervemask"):
        build_dicom_segmentation(read_header(data.replace(valid, damaged)), [np.zeros((64, 80), np.uint8)], card)
    assert (error.value.status, error.value.code) == (422, "header")
    cause = type(error.value.__cause__).__name__
    assert re.fullmatch(rf"the DICOM header is damaged: {cause} at \S+\.py:\d+", caplog.messages[-1])


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
    notes = dropped_value_notes(cine.header)
    assert (not notes) if not note else note in notes[0]


CHARACTER_SETS = [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO 2022 IR 100", "Buc^Jérôme"),
    ("ISO_IR 6", "Doe^Jane"),
    ("", "Doe^Jane"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
]


def ultrasound_of_patient(name: str, charset: str | list[str]) -> Dataset:
    """Return an ultrasound with the name in an element and in a sequence."""
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "1", "99TEST"
    procedure.CodeMeaning = name.split("=")[-1].replace("^", " ")
    return make_ultrasound(
        np.zeros((64, 80), np.uint8),
        SpecificCharacterSet=charset,
        PatientName=name,
        ProcedureCodeSequence=Sequence([procedure]),
    )


@pytest.mark.parametrize(("charset", "name"), CHARACTER_SETS, ids=str)
def test_a_name_is_kept_in_every_character_set(card, charset, name) -> None:
    header = read_header(to_bytes(ultrasound_of_patient(name, charset)))
    segmentation = build(header, [asymmetric_mask(64, 80)], card)
    assert segmentation.PatientName == name
    assert segmentation.ProcedureCodeSequence[0].CodeMeaning == name.split("=")[-1].replace("^", " ")


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


@needs_dcmtk
def test_dcmtk_reads_it(card, tmp_path) -> None:
    data = build_dicom_segmentation(
        make_ultrasound(np.zeros((3, 40, 48), np.uint8)), [asymmetric_mask(40, 48)] * 3, card
    )
    (tmp_path / "seg.dcm").write_bytes(data)
    dump = subprocess.run(["dcmdump", tmp_path / "seg.dcm"], capture_output=True, text=True, check=True).stdout
    assert "=SegmentationStorage" in dump
    assert "NumberOfFrames" in dump and "[3]" in dump
