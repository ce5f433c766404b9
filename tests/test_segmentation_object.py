"""The DICOM Segmentation: valid, of the right patient, pixel for pixel upon its frame; read by others than wrote it."""

import io
import shutil
import subprocess
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

from service.cine import open_cine
from service.dicom.segmentation_object import segmentation_object
from service.errors import FrameError
from service.shapes import run_lengths
from tests.dicoms import region, ultrasound, written
from tests.test_shapes import from_run_lengths

SIDES = st.integers(16, 24)
needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmdump"), reason="dcmtk is not installed")


def header_of(data: bytes) -> Dataset:
    return open_cine(io.BytesIO(data)).header


def asymmetric(rows: int, columns: int, shift: int = 0) -> np.ndarray:
    """An L near the upper left: no flip, turn or transposition leaves it where it is."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[3:20, 5 + shift : 9 + shift] = 255
    mask[16:20, 5 + shift : 30 + shift] = 255
    return mask


def pixels_by_gdcm(path: Path) -> np.ndarray:
    """uint8 (frames, rows, columns), 0 or 1."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    columns, rows, *rest = image.GetDimensions()
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    frames = rest[0] if rest else 1
    return bits[: frames * rows * columns].reshape(frames, rows, columns)


@pytest.mark.parametrize("shape", [(41, 53), (5, 64, 80), (9, 31, 37), (1, 40, 48)], ids=str)
def test_another_library_finds_the_shape_where_it_was_planted(card, tmp_path, shape) -> None:
    """(9, 31, 37): frames whose bits do not end where a byte does."""
    source = ultrasound(np.zeros(shape, np.uint8))
    masks = np.stack([asymmetric(*shape[-2:], shift=n) for n in range(shape[0] if len(shape) == 3 else 1)])
    path = tmp_path / "seg.dcm"
    path.write_bytes(segmentation_object(source, masks, card))
    assert np.array_equal(pixels_by_gdcm(path) * 255, masks)
    assert np.array_equal(dcmread(path).pixel_array.reshape(masks.shape) * 255, masks)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(16, 24), st.integers(16, 24)),
        elements=st.sampled_from([0, 255]),
    )
)
def test_run_lengths_and_segmentation_hold_the_same_pixels(card, masks) -> None:
    made = dcmread(io.BytesIO(segmentation_object(ultrasound(masks), masks, card)))
    for mask, read in zip(masks, made.pixel_array.reshape(masks.shape), strict=True):
        assert np.array_equal(from_run_lengths(run_lengths(mask), mask.shape), read * 255)


def test_patient_study_and_source_are_kept(card) -> None:
    source = ultrasound(np.zeros((3, 40, 48), np.uint8), FrameOfReferenceUID="1.2.3.4")
    made = dcmread(io.BytesIO(segmentation_object(source, [asymmetric(40, 48)] * 3, card)))
    kept = (
        "PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyTime",
        "StudyID", "AccessionNumber", "ReferringPhysicianName",
    )  # fmt: skip
    assert {name: made[name].value for name in kept} == {name: source[name].value for name in kept}
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    for number, groups in enumerate(made.PerFrameFunctionalGroupsSequence, 1):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        assert image.ReferencedFrameNumber == number
        assert image.SpatialLocationsPreserved == "YES"
    assert "FrameOfReferenceUID" not in made


def test_it_says_who_made_it_and_what_it_shows(card) -> None:
    source = ultrasound(np.zeros((40, 48), np.uint8))
    segment = dcmread(io.BytesIO(segmentation_object(source, [asymmetric(40, 48)], card))).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (card.name, card.version)
    assert card.run_id in algorithm.AlgorithmParameters
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("3057000", "SCT")
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"


def test_asked_twice_it_is_the_same_object_and_another_run_makes_another(card) -> None:
    from dataclasses import replace

    source, masks = ultrasound(np.zeros((40, 48), np.uint8)), [asymmetric(40, 48)]
    first, second, other = (
        dcmread(io.BytesIO(segmentation_object(source, masks, by))).SOPInstanceUID
        for by in (card, card, replace(card, run_id="another"))
    )
    assert first == second != other


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_without_identity_is_refused(card, missing) -> None:
    source = ultrasound(np.zeros((40, 48), np.uint8))
    del source[missing]
    with pytest.raises(FrameError, match=missing):
        segmentation_object(source, [asymmetric(40, 48)], card)


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00LM"),  # the type of the patient's number
        (b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00U\x80"),  # of the instance's
        (b"\x20\x00\x13\x00IS\x02\x005 ", b"\x20\x00\x13\x00IS\x02\x00% "),  # a number that is none
    ],
)
def test_a_damaged_header_is_refused_where_its_frames_can_be_seen(card, sound, damaged) -> None:
    """As mutated uploads had them: the service failed on each."""
    data = written(ultrasound(np.zeros((64, 80), np.uint8)))
    assert data.count(sound) == 1
    with pytest.raises(FrameError) as fault:
        segmentation_object(header_of(data.replace(sound, damaged)), [np.zeros((64, 80), np.uint8)], card)
    assert (fault.value.status, fault.value.code) == (422, "header")


CHARACTER_SETS = [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO 2022 IR 100", "Buc^Jérôme"),
    ("ISO_IR 6", "Doe^Jane"),
    ("", "Doe^Jane"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
]


def of_patient(name: str, charset: str | list[str]) -> Dataset:
    """The name stands in a sequence, too."""
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "1", "99TEST"
    procedure.CodeMeaning = name.split("=")[-1].replace("^", " ")
    return ultrasound(
        np.zeros((64, 80), np.uint8),
        SpecificCharacterSet=charset,
        PatientName=name,
        ProcedureCodeSequence=Sequence([procedure]),
    )


@pytest.mark.parametrize(("charset", "name"), CHARACTER_SETS, ids=str)
def test_a_name_is_kept_whatever_its_character_set(card, charset, name) -> None:
    header = header_of(written(of_patient(name, charset)))
    made = dcmread(io.BytesIO(segmentation_object(header, [asymmetric(64, 80)], card)))
    assert made.PatientName == name
    assert made.ProcedureCodeSequence[0].CodeMeaning == name.split("=")[-1].replace("^", " ")


def errors_of_dciodvfy(path: Path) -> list[str]:
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
    assert "Segmentation" in done.stderr.splitlines()  # the kind of object that it was held against
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def sources(folder: Path) -> dict[str, bytes]:
    """Ultrasounds as they come: our own, pydicom's, what dcmtk makes of them, and some with odd headers.

    The retired multi-frame class has a test of its own.
    """
    grey = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (4, 64, 80), np.uint8), (5, 5), 0)
    made = {
        "frame": written(ultrasound(grey[0])),
        "cine": written(ultrasound(grey)),
        "retired": written(ultrasound(grey[0], SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.6"))),
        "region": written(ultrasound(grey[0], SequenceOfUltrasoundRegions=Sequence([region(4, 4, 60, 50)]))),
        "bare": written(bare(ultrasound(grey[0]))),
        "odd values": written(ultrasound(grey[0], PatientSex="X", StudyTime="14:04:38", StudyDate="1997.04.24")),
        "lossy": written(ultrasound(grey[0], LossyImageCompression="01")),
        "spacing": written(ultrasound(grey[0], PixelSpacing=[0.1, 0.2])),
        **{f"in {charset}": written(of_patient(name, charset)) for charset, name in CHARACTER_SETS},
    }
    for name in ("examples_ybr_color", "examples_rgb_color", "examples_palette", "examples_jpeg2k", "ExplVR_BigEnd",
                 "SC_rgb_rle_2frame", "SC_rgb_jpeg_dcmtk", "SC_ybr_full_422_uncompressed"):  # fmt: skip
        made[name] = Path(get_testdata_file(f"{name}.dcm")).read_bytes()
    if shutil.which("dcmcjpeg"):
        (folder / "cine.dcm").write_bytes(made["cine"])
        for command in (["dcmcjpeg", "+eb"], ["dcmcrle"]):
            subprocess.run([*command, folder / "cine.dcm", folder / "out.dcm"], check=True)
            made[command[0]] = (folder / "out.dcm").read_bytes()
        cv2.imwrite(str(folder / "a.jpg"), grey[0])
        subprocess.run(["img2dcm", folder / "a.jpg", folder / "a.dcm"], check=True)
        made["img2dcm"] = (folder / "a.dcm").read_bytes()
    return made


def bare(made: Dataset) -> Dataset:
    """Without anything that is not needed to be read."""
    for keyword in ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID",
                    "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber"):  # fmt: skip
        del made[keyword]
    return made


@needs_dciodvfy
def test_dciodvfy_finds_no_error(card, tmp_path) -> None:
    for name, data in sources(tmp_path).items():
        header = header_of(data)
        path = tmp_path / "seg.dcm"
        masks = [asymmetric(header.Rows, header.Columns)] * int(header.get("NumberOfFrames") or 1)
        path.write_bytes(segmentation_object(header, masks, card))
        assert errors_of_dciodvfy(path) == [], name


@needs_dciodvfy
def test_of_the_retired_multi_frame_class_dciodvfy_finds_the_frames_numbers_alone(card, tmp_path) -> None:
    """It does not know that the class is multi-frame, and that its frames may be referred to by their numbers."""
    source = ultrasound(np.zeros((3, 64, 80), np.uint8), SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.3"))
    path = tmp_path / "seg.dcm"
    path.write_bytes(segmentation_object(header_of(written(source)), [asymmetric(64, 80)] * 3, card))
    found = errors_of_dciodvfy(path)
    assert [error for error in found if "ReferencedFrameNumber" in error and "not multi-frame" in error] == found


@needs_dciodvfy
def test_dciodvfy_would_find_one(card, tmp_path) -> None:
    source = ultrasound(np.zeros((40, 48), np.uint8))
    made = dcmread(io.BytesIO(segmentation_object(source, [asymmetric(40, 48)], card)))
    del made.SegmentSequence[0].SegmentAlgorithmType
    made.save_as(tmp_path / "seg.dcm")
    assert errors_of_dciodvfy(tmp_path / "seg.dcm")


@needs_dcmtk
def test_dcmtk_reads_it(card, tmp_path) -> None:
    data = segmentation_object(ultrasound(np.zeros((3, 40, 48), np.uint8)), [asymmetric(40, 48)] * 3, card)
    (tmp_path / "seg.dcm").write_bytes(data)
    told = subprocess.run(["dcmdump", tmp_path / "seg.dcm"], capture_output=True, text=True, check=True).stdout
    assert "=SegmentationStorage" in told
    assert "NumberOfFrames" in told and "[3]" in told
