"""Masks as a DICOM Segmentation (PS3.3 A.51) that refers to the ultrasound they were made of."""

import copy
import io
import itertools
import re
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.enum import PatientSexValues
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundImageStorage
from pydicom.valuerep import DA, TM

from service.card import Card
from service.errors import FrameError

NERVE = Code("3057000", "SCT", "Nerve")
AMBER = CIELabColor(82.0, 10.0, 83.0)  # as in the pictures
SERIES_OFFSET = 1000  # a segmentation's series is listed behind its source's
UNCOMPRESSED = ExplicitVRLittleEndian
UTF_8 = "ISO_IR 192"  # whatever the source has: highdicom refuses some of the sets that are met

# A PACS keeps names as they came: highdicom's advice on them helps nobody here.
warnings.filterwarnings("ignore", category=UserWarning, module="highdicom")
IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# Attributes of patient and study that highdicom copies, and fails without; all may be empty (type 2).
COPIED: dict[str, Callable[[str], Any] | None] = {
    "PatientID": None,
    "PatientName": None,
    "PatientBirthDate": DA,
    "PatientSex": lambda sex: PatientSexValues(sex).value,
    "AccessionNumber": None,
    "StudyID": None,
    "StudyDate": DA,
    "StudyTime": TM,
    "ReferringPhysicianName": None,
}


def segmentation_object(source: Dataset, masks: Iterable[np.ndarray], card: Card) -> bytes:
    """The bytes of a DICOM file with one binary segment, "Nerve", frame for frame as in the source.

    source: the header of the ultrasound. masks: uint8 (rows, columns), 0 or 255, one for each of its frames; they are
    taken one after another, and few are held at once.
    The same source and model run give the same UIDs, so that a PACS keeps one object however often it is asked for.
    Raises FrameError 422 where the source does not say what it is, or nonsense.
    """
    with _refusing_nonsense():
        absent = [keyword for keyword in IDENTITY if not source.get(keyword)]
    if absent:
        raise FrameError("no_identity", f"A segmentation refers to its source, which has no {absent[0]}.", 422)
    with _refusing_nonsense():
        made = _without_pixels(source, card)
    made.PixelData = _bits(masks)
    written = io.BytesIO()
    with _refusing_nonsense():
        made.save_as(written, enforce_file_format=True)
    return written.getvalue()


@contextmanager
def _refusing_nonsense() -> Iterator[None]:
    """Elements that the frames do not need are read here for the first time; damaged, they raise nearly anything."""
    try:
        yield
    except Exception as fault:
        raise FrameError("header", "The DICOM header is damaged: no segmentation can refer to it.", 422) from fault


def _without_pixels(source: Dataset, card: Card) -> Segmentation:
    made = Segmentation(
        [_as_one_frame(source)],
        np.zeros((1, source.Rows, source.Columns), np.uint8),
        SegmentationTypeValues.BINARY,
        [_nerve(card)],
        series_instance_uid=derived_uid(source.SeriesInstanceUID, card.run_id),
        series_number=int(source.get("SeriesNumber") or 0) + SERIES_OFFSET,
        sop_instance_uid=derived_uid(source.SOPInstanceUID, card.run_id),
        instance_number=int(source.get("InstanceNumber") or 1),
        manufacturer="Nervemask",
        manufacturer_model_name=card.name,
        software_versions=card.version,
        device_serial_number=card.run_id,
        transfer_syntax_uid=UNCOMPRESSED,
        specific_character_set=UTF_8,
        content_label="NERVE",
        content_description=f"Nerve, found by {card.name} {card.version}"[:64],
        series_description=f"Nerve ({card.name} {card.version})"[:64],
        omit_empty_frames=False,
    )
    made.PatientOrientation = None  # type 2C, and unknown of a hand-held probe
    made.BurnedInAnnotation = "NO"
    _refer_to(made, source)
    if "NumberOfFrames" in source:
        _add_frames(made, int(source.NumberOfFrames or 1))
    return made


def _as_one_frame(source: Dataset) -> Dataset:
    """The header as highdicom takes it: an Ultrasound Image, for it asks more of the others than ultrasound has."""
    header = copy.deepcopy(source)
    header.SOPClassUID = UltrasoundImageStorage
    header.pop("NumberOfFrames", None)
    header.pop("FrameOfReferenceUID", None)  # means nothing without the positions that ultrasound does not have
    for keyword, kind in COPIED.items():
        setattr(header, keyword, _valid(header.get(keyword), kind))
    return header


def _valid(value: Any, kind: Callable[[str], Any] | None) -> Any:
    """A value as the standard has it, None where it cannot be brought to that."""
    try:
        # Dates and times once held dots and colons (ACR-NEMA), and old scanners still write them.
        return kind(re.sub("[.:-]", "", str(value))) if kind and value else value
    except ValueError:
        return None


def _refer_to(made: Segmentation, source: Dataset) -> None:
    """Name the source's own class wherever the object refers to it.

    The walk decodes the copied sequences, too: their texts would be written as they came otherwise, in the source's
    character set.
    """

    def rename(dataset: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPClassUID":
            element.value = source.SOPClassUID

    made.walk(rename)


def _nerve(card: Card) -> SegmentDescription:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        card.name,
        family=codes.DCM.ArtificialIntelligence,
        version=card.version,
        source="Nervemask",
        parameters={"run": card.run_id, "commit": card.commit, "data": card.data},
    )
    return SegmentDescription(
        1,
        "Nerve",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=NERVE,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=AMBER,
    )


def _add_frames(made: Segmentation, count: int) -> None:
    """Bring the object of the first frame to all of them.

    highdicom makes no more than one where there is no Frame of Reference, and an ultrasound cine has none: a hand-held
    probe has no place in a patient's coordinates. None is needed. Where the Derivation Image macro names the source
    frame that each frame was made of, and that its locations are preserved, PS3.3 A.51.3 and A.51.5 ask for no Frame of
    Reference, plane position or pixel measures. What tells the frames apart is time: the Temporal Position Index in
    Frame Content (C.7.6.16.2.2) becomes their second dimension.
    """
    made.NumberOfFrames = count
    made.DimensionIndexSequence.append(_time(made.DimensionIndexSequence[0]))
    first = made.PerFrameFunctionalGroupsSequence[0]
    # Several frames in an object of a single-frame class are met, but may not be referred to by their numbers.
    by_number = "Multi-frame" in first.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID.name
    numbers = range(1, count + 1)
    made.PerFrameFunctionalGroupsSequence = [_groups(first, number, by_number) for number in numbers]


def _bits(masks: Iterable[np.ndarray]) -> bytes:
    """The masks' pixels as bits, the first the lowest, with no gap between frames (PS3.5 8.1.1), to an even length."""
    masks, packed = iter(masks), bytearray()
    while eight := list(itertools.islice(masks, 8)):  # eight frames end where a byte does
        packed += np.packbits(np.concatenate([mask.ravel() > 0 for mask in eight]), bitorder="little").tobytes()
    return bytes(packed) + b"\0" * (len(packed) % 2)


def _time(segment: Dataset) -> Dataset:
    """A dimension beside the segments'."""
    dimension = Dataset()
    dimension.DimensionOrganizationUID = segment.DimensionOrganizationUID
    dimension.DimensionIndexPointer = 0x00209128  # Temporal Position Index
    dimension.FunctionalGroupPointer = 0x00209111  # Frame Content Sequence
    dimension.DimensionDescriptionLabel = "Frame"
    return dimension


def _groups(first: Dataset, number: int, by_number: bool) -> Dataset:
    """The functional groups of frame `number`, counted from 1, after those of the first."""
    groups = copy.deepcopy(first)
    content = groups.FrameContentSequence[0]
    content.TemporalPositionIndex = number
    content.DimensionIndexValues = [1, number]
    if by_number:
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    return groups


def derived_uid(source: str, run_id: str) -> UID:
    """A UID that is the same for the same source's UID and model run (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{source} {run_id}').int}")
