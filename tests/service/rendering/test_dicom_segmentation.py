"""The DICOM Segmentation is valid, refers to its source, and holds exactly the masks, as other libraries read them."""

import logging
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import gdcm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread

from service.errors import FrameError
from service.rendering.dicom_segmentation import build_dicom_segmentation
from service.rendering.dicom_segmentation_source import invalid_value_notes
from service.rendering.run_lengths import encode_run_lengths
from tests.dicoms import make_ultrasound, to_bytes
from tests.run_lengths import decode_run_lengths
from tests.service.rendering.segmentations import (
    CHARACTER_SETS,
    asymmetric_mask,
    build,
    read_header,
    ultrasound_of_patient,
)

needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmdump"), reason="dcmtk is not installed")


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
    with pytest.raises(FrameError, match="header is damaged"):
        invalid_value_notes(read_header(data.replace(valid, damaged)))
    assert (error.value.status, error.value.code) == (422, "header")
    cause = type(error.value.__cause__).__name__
    assert re.fullmatch(rf"the DICOM header is damaged: {cause} at \S+\.py:\d+", caplog.messages[-1])


@pytest.mark.parametrize(("charset", "name"), CHARACTER_SETS, ids=str)
def test_a_name_is_kept_in_every_character_set(card, charset, name) -> None:
    header = read_header(to_bytes(ultrasound_of_patient(name, charset)))
    segmentation = build(header, [asymmetric_mask(64, 80)], card)
    assert segmentation.PatientName == name
    assert segmentation.ProcedureCodeSequence[0].CodeMeaning == name.split("=")[-1].replace("^", " ")


@needs_dcmtk
def test_dcmtk_reads_it(card, tmp_path) -> None:
    data = build_dicom_segmentation(
        make_ultrasound(np.zeros((3, 40, 48), np.uint8)), [asymmetric_mask(40, 48)] * 3, card
    )
    (tmp_path / "seg.dcm").write_bytes(data)
    dump = subprocess.run(["dcmdump", tmp_path / "seg.dcm"], capture_output=True, text=True, check=True).stdout
    assert "=SegmentationStorage" in dump
    assert "NumberOfFrames" in dump and "[3]" in dump
