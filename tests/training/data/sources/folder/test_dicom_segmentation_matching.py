"""DICOM ultrasound with DICOM Segmentations beside it."""

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, UltrasoundImageStorage

from service.model.card import Card
from service.rendering.dicom_segmentation import NERVE, build_dicom_segmentation
from tests.dicoms import decode_frames, make_compressed_ultrasound, make_region, make_ultrasound, to_bytes
from tests.frames import disc
from tests.training.data.sources.folder.datasets import (
    CINE,
    EMPTY,
    GREY,
    HEIGHT,
    OTHER,
    SHAPE,
    WIDTH,
    encode,
    functional_groups,
    ingest,
    item,
    make_segmentation,
    save,
    write,
)
from training.data.manifest import read_frame
from training.data.source_errors import SourceError
from training.data.sources.folder import dicom_files
from training.workspace.parameter_validation import ParameterError


@pytest.mark.parametrize(
    ("frames", "attributes"),
    [(GREY, {}), (CINE, {}), (CINE, {"SOPClassUID": UltrasoundImageStorage})],
    ids=["one frame", "a cine", "a cine of a class for one frame"],
)
def test_the_services_own_segmentations_are_masks(tmp_path, card: Card, frames, attributes) -> None:
    image = make_ultrasound(frames, **attributes)
    masks = [np.roll(SHAPE, 5 * index, axis=1) for index in range(3)] + [EMPTY]
    masks = masks if frames.ndim == 3 else masks[:1]
    write(tmp_path / "set/image.dcm", to_bytes(image))
    write(tmp_path / "set/seg.dcm", build_dicom_segmentation(image, (np.uint8(255) * mask for mask in masks), card))
    rows, labels, log = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels, masks) and log.left_out == []
    decoded = [frame.pixels for frame in decode_frames(to_bytes(image))]
    assert np.array_equal([read_frame(row, tmp_path / "frames").pixels for row in rows], decoded)


def build_with_highdicom(image: Dataset, pixels: np.ndarray, segmentation_type: str) -> Dataset:
    """Return a segmentation of the classes nerve and artery. pixels: (1, rows, columns, 2)."""
    image.PatientOrientation = image.Laterality = None
    descriptions = [
        SegmentDescription(number, label, codes.SCT.AnatomicalStructure, NERVE, "MANUAL")
        for number, label in ((1, "nerve"), (2, "artery"))
    ]
    uids = {name: highdicom.UID() for name in ("series_instance_uid", "sop_instance_uid")}
    numbers = {"series_number": 1, "instance_number": 1, "device_serial_number": "1"}
    maker = {"manufacturer": "m", "manufacturer_model_name": "n", "software_versions": "1"}
    return Segmentation([image], pixels, segmentation_type, descriptions, **uids, **numbers, **maker)


@pytest.mark.parametrize("segmentation_type", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_each_type_of_segmentation_is_read(tmp_path, segmentation_type) -> None:
    """The pixels of a fractional one belong to the mask from one half on."""
    image = make_ultrasound(GREY)
    pixels = np.stack([SHAPE, OTHER & ~SHAPE], axis=-1)[np.newaxis].astype(float)
    if segmentation_type == "FRACTIONAL":
        pixels = np.where(pixels == 1, 0.6, 0.4)
    segmentation = build_with_highdicom(
        image, pixels if segmentation_type == "FRACTIONAL" else pixels.astype(np.uint8), segmentation_type
    )
    save(tmp_path / "set", image=image, seg=segmentation)
    rows, labels, _ = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels[0], np.where(SHAPE, 1, 2 * OTHER)) and rows[0].vessels


def test_a_label_map_with_an_undescribed_value_is_an_error(tmp_path) -> None:
    image = make_ultrasound(GREY)
    segmentation = build_with_highdicom(image, SHAPE[np.newaxis].astype(np.uint8), "LABELMAP")
    segmentation.PixelData = (np.uint8(9) * SHAPE).tobytes()
    save(tmp_path / "set", image=image, seg=segmentation)
    with pytest.raises(SourceError, match=r"seg\.dcm: has pixels of segment 9, which is not described"):
        ingest(tmp_path / "set", tmp_path / "frames")


def test_a_deflated_segmentation_is_read_within_a_limit(tmp_path, monkeypatch) -> None:
    image = make_ultrasound(GREY)
    segmentation = make_segmentation(image, [SHAPE])
    segmentation.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(tmp_path / "set", image=image, seg=segmentation)
    assert np.array_equal(ingest(tmp_path / "set", tmp_path / "frames")[1], [SHAPE])
    monkeypatch.setattr(dicom_files, "MAX_INFLATED_BYTES", 1000)
    with pytest.raises(SourceError, match=r"seg\.dcm: is deflated, and has more than 0 MiB otherwise"):
        ingest(tmp_path / "set", tmp_path / "more")


def test_segments_are_classes(tmp_path) -> None:
    """Nerve wins over artery, muscle is ignored. The class of the last one is its Segmented Property Type."""
    image = make_ultrasound(GREY)
    masks = [OTHER, SHAPE, ~EMPTY, EMPTY | (np.arange(WIDTH) < 5)]
    segmentation = make_segmentation(
        image, masks, segments=[2, 1, 3, 4], labels=("Nerve", "Artery", "Muscle", "Segment_4")
    )
    code = item(CodeMeaning="Nerve", CodeValue="3057000", CodingSchemeDesignator="SCT")
    segmentation.SegmentSequence[3].SegmentedPropertyTypeCodeSequence = [code]
    save(tmp_path / "set", image=image, seg=segmentation)
    rows, labels, _ = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels[0], np.where(SHAPE | masks[3], 1, 2 * OTHER)) and rows[0].vessels
    segmentation.SegmentSequence[1].SegmentLabel = "Tendon"
    save(tmp_path / "set", seg=segmentation)
    with pytest.raises(ParameterError, match=r"seg\.dcm has the class 'tendon', which is not in nerve\.classes"):
        ingest(tmp_path / "set", tmp_path / "more")


def test_a_segmentation_may_cover_some_frames_of_a_cine(tmp_path) -> None:
    """An empty mask says that the frame shows no nerve. A frame without a mask is left out."""
    image = make_ultrasound(CINE)
    save(tmp_path / "set", cine=image, seg=make_segmentation(image, [SHAPE, EMPTY], frame_numbers=[2, 4]))
    rows, labels, log = ingest(tmp_path / "set", tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("cine", 1), ("cine", 3)]
    assert np.array_equal(labels, [SHAPE, EMPTY])
    assert np.array_equal(read_frame(rows[0], tmp_path / "frames").pixels, CINE[1])
    assert dict(log.left_out) == dict.fromkeys(["cine.dcm[0]", "cine.dcm[2]"], "is a frame of a cine without a mask")


def test_several_segmentations_of_a_frame_are_one_mask(tmp_path) -> None:
    """Those of ignored classes may contradict each other."""
    image = make_ultrasound(GREY)
    nerve, artery = make_segmentation(image, [SHAPE]), make_segmentation(image, [OTHER], labels=("artery",))
    save(tmp_path / "set", image=image, nerve=nerve, artery=artery, again=make_segmentation(image, [SHAPE]))
    for name, mask in (("muscle", SHAPE), ("more_muscle", OTHER)):
        save(tmp_path / "set", **{name: make_segmentation(image, [mask], labels=("muscle",))})
    _, labels, log = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels[0], np.where(SHAPE, 1, 2 * OTHER)) and log.left_out == []


def test_one_segmentation_may_mark_several_images(tmp_path) -> None:
    first, second = make_ultrasound(GREY), make_ultrasound(disc(HEIGHT, WIDTH, seed=5))
    segmentation = make_segmentation(first, [SHAPE, OTHER])
    segmentation.PerFrameFunctionalGroupsSequence[1] = functional_groups(second, None, 1)
    save(tmp_path / "set", a_1=first, a_2=second, seg=segmentation)
    _, labels, _ = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels, [SHAPE, OTHER])


def test_nothing_vanishes(tmp_path) -> None:
    image, alone = make_ultrasound(GREY), make_ultrasound(GREY)
    marked = make_ultrasound(disc(HEIGHT, WIDTH, seed=7))
    report = make_segmentation(image, [SHAPE])
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    computed = make_ultrasound(GREY, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
    folder = save(tmp_path / "set", image=image, copy=image, alone=alone, report=report, ct=computed, marked=marked)
    save(folder, seg=make_segmentation(marked, [SHAPE]), both=make_segmentation(image, [SHAPE]))
    write(folder / "damaged.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 100)
    rows, _, log = ingest(folder, tmp_path / "frames", on_error="skip")
    assert len(rows) == 1
    reasons = {
        "image.dcm": "has the same SOPInstanceUID as another file",
        "copy.dcm": "has the same SOPInstanceUID as another file",
        "both.dcm": "marks a DICOM image that is not there",
        "alone.dcm": "is a DICOM image without a segmentation or a mask",
        "report.dcm": "is a DICOM file without pixels (Basic Text SR Storage)",
        "ct.dcm": "is not a readable video or DICOM ultrasound (Only ultrasound is segmented",
        "damaged.dcm": "is ",
    }
    assert sorted(file for file, _ in log.left_out) == sorted(reasons)
    assert all(reason.startswith(reasons[file]) for file, reason in log.left_out)


def test_the_frame_is_the_scan_area_as_in_the_service(tmp_path) -> None:
    image = make_ultrasound(GREY, SequenceOfUltrasoundRegions=[make_region(20, 10, 69, 59, PhysicalDeltaY=0.01)])
    save(tmp_path / "set", image=image, seg=make_segmentation(image, [SHAPE]))
    rows, labels, _ = ingest(tmp_path / "set", tmp_path / "frames")
    assert np.array_equal(labels[0], SHAPE[10:60, 20:70]) and rows[0].spacing_mm == 0.1
    assert np.array_equal(read_frame(rows[0], tmp_path / "frames").pixels, GREY[10:60, 20:70])
    save(tmp_path / "set", seg=make_segmentation(image, [OTHER]))
    with pytest.raises(SourceError, match=r"seg\.dcm: marks pixels outside the ultrasound region .*columns 20 to 69"):
        ingest(tmp_path / "set", tmp_path / "more")


def test_frames_of_several_files_of_a_subject_have_numbers_of_their_own(tmp_path) -> None:
    """The files have no suffix, as scanners write them. The folder is a zip file."""
    for name, frames in (("anna/IM1", CINE), ("anna/IM2", GREY), ("anna/IM3", CINE[:2]), ("ben/IM1", GREY)):
        image = make_ultrasound(frames)
        count = len(frames) if frames.ndim == 3 else 1
        numbers = [*range(1, count + 1)] if count > 1 else None
        write(tmp_path / "set" / name, to_bytes(image))
        write(tmp_path / "set" / f"{name}S", to_bytes(make_segmentation(image, [SHAPE] * count, numbers)))
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    rows, _, log = ingest(Path(archive), tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [*(("anna", number) for number in range(1, 8)), ("ben", 1)]
    assert log.left_out == []


def test_the_number_in_a_cine_is_the_frames_number_only_if_the_subject_has_no_other_file(tmp_path) -> None:
    for name, number in (("anna/1", 4), ("anna/2", 2), ("ben/1", 3)):
        image = make_ultrasound(CINE)
        save(tmp_path / "set" / name, image=image, seg=make_segmentation(image, [SHAPE], [number]))
    write(tmp_path / "set/subjects.csv", b"file,subject\nanna/1/image.dcm,A\nanna/2/image.dcm,A\nben/1/image.dcm,B\n")
    rows, _, _ = ingest(tmp_path / "set", tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("A", 1), ("A", 2), ("B", 2)]


def test_two_files_of_the_same_name_are_errors_both(tmp_path) -> None:
    """Their names cannot say which mask is whose, so neither is used."""
    images = {name: make_ultrasound(GREY) for name in ("a_1", "a_2")}
    save(tmp_path / "set", **images, **{f"of_{name}": make_segmentation(i, [SHAPE]) for name, i in images.items()})
    write(tmp_path / "set/a_1.png", encode(GREY, "PNG"))
    rows, _, log = ingest(tmp_path / "set", tmp_path / "frames", on_error="skip")
    assert len(rows) == 1
    assert sorted(file for file, _ in log.left_out) == ["a_1.dcm", "a_1.png", "of_a_1.dcm"]


def test_a_dicom_frame_can_have_a_mask_picture(tmp_path) -> None:
    """The frames of a cine have masks in a folder of its name."""
    write(tmp_path / "set/a_1.dcm", to_bytes(make_compressed_ultrasound(GREY, JPEG2000Lossless)))
    write(tmp_path / "set/a_2.dcm", to_bytes(make_ultrasound(CINE)))
    write(tmp_path / "set/a_1_mask.png", encode(np.uint8(255) * SHAPE, "PNG"))
    write(tmp_path / "set/masks/a_2/a_2_003.png", encode(np.uint8(255) * OTHER, "PNG"))
    rows, labels, log = ingest(tmp_path / "set", tmp_path / "frames")
    assert [(row.subject, row.number) for row in rows] == [("a_2", 3), ("folder", 1)]
    assert np.array_equal(labels, [OTHER, SHAPE]) and len(log.left_out) == 3
    image = make_ultrasound(GREY)
    save(tmp_path / "set", a_1=image, seg=make_segmentation(image, [SHAPE]))
    with pytest.raises(SourceError, match=r"annotates the same frame as another file \(a_1_mask\.png, seg\.dcm\)"):
        ingest(tmp_path / "set", tmp_path / "more")
