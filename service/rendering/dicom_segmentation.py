"""Masks as a DICOM Segmentation (PS3.3 A.51) that refers to the ultrasound they belong to."""

import io
import uuid
import warnings
from collections.abc import Iterable, Mapping

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import DataElement, Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from service.errors import ErrorCode, FrameError
from service.model.card import Card
from service.rendering.dicom_segmentation_frames import add_frames, pack_masks
from service.rendering.dicom_segmentation_source import (
    MAX_SERIES_NUMBER,
    REQUIRED_UIDS,
    SERIES_OFFSET,
    as_single_frame,
    raise_as_header_error,
    read_number,
)
from service.request_state import DEFAULT_SETTINGS, AnswerSettings

NERVE = Code("3057000", "SCT", "Nerve")
AMBER = CIELabColor(82.0, 10.0, 83.0)  # the colour of overlay.NERVE_BGR
SKY_BLUE = CIELabColor(70.0, -9.0, -38.0)  # the colour of overlay.OUTLINES_BGR
NERVE_LABEL = "Nerve"
OUTLINE_LABELS = ("Nerve, outer outline", "Nerve, inner outline")
# Segment Descriptions (value representation ST) of the outlines.
OUTLINE_PROMISES = (
    "In {level} of the frames with a nerve and a mask it holds {coverage} of the nerve, unless the comment denies it.",
    "In {level} of the frames with a mask {coverage} of it is nerve, unless the comment denies it. It may be empty.",
)
MANUFACTURER = "Nervemask"
# Change these when the methods change: other masks need other UIDs.
SMOOTHING, OUTLINES = "smooth 1", "outlines 1"
UTF_8 = "ISO_IR 192"  # not the source's character set: highdicom refuses some of those
MAX_TEXT_LENGTH = 64  # of Content Description and Series Description (value representation LO)

# highdicom warns about names of patients that lack a component. A PACS keeps the names as they are.
warnings.filterwarnings("ignore", category=UserWarning, module="highdicom")


def build_dicom_segmentation(
    source: Dataset,
    masks: Iterable[np.ndarray],
    card: Card,
    settings: AnswerSettings = DEFAULT_SETTINGS,
    frame_notes: Mapping[int, tuple[str, ...]] | None = None,
) -> bytes:
    """Return a DICOM file with a binary segment "Nerve", and with two more if `has_outlines`.

    source: header of the ultrasound.
    masks: uint8 (rows, columns), 0 or 255, one for each segment of each frame of the source: the nerve, then the
        regions inside the outer and the inner outline. At most eight are in memory at once.
    card: describes the model. The file holds its name, version, run ID, commit and data hash.
    settings: what the client asked of the masks. The file holds whether they are smoothed over time.
    frame_notes: by frame, from 0: what a reader must know about its mask. They become Frame Comments (PS3.3
        C.7.6.16.2.2), and are read after all masks.

    The same source, model run and settings give the same UIDs, so that a PACS keeps one object even if it
    receives it again.
    Raises FrameError 422 if the source lacks one of REQUIRED_UIDS or its header is damaged.
    """
    with raise_as_header_error():
        missing = [keyword for keyword in REQUIRED_UIDS if not source.get(keyword)]
    if missing:
        message = f"The DICOM file has no {missing[0]}, which a segmentation must refer to."
        raise FrameError(ErrorCode.NO_IDENTITY, message)
    with raise_as_header_error():
        segmentation = _build_without_pixels(source, card, settings)
    segmentation.PixelData = pack_masks(masks)
    frames, segment_count = segmentation.PerFrameFunctionalGroupsSequence, len(segmentation.SegmentSequence)
    for index, notes in (frame_notes or {}).items():
        for frame in frames[index * segment_count : (index + 1) * segment_count]:
            frame.FrameContentSequence[0].FrameComments = "; ".join(notes)
    file = io.BytesIO()
    with raise_as_header_error():
        segmentation.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _build_without_pixels(source: Dataset, card: Card, settings: AnswerSettings) -> Segmentation:
    """Return the segmentation of all frames; its pixel data are those of one frame with empty masks."""
    segments = _describe_segments(card, settings)
    segmentation = Segmentation(
        [as_single_frame(source)],
        np.zeros((1, source.Rows, source.Columns, len(segments)), np.uint8),
        SegmentationTypeValues.BINARY,
        segments,
        series_instance_uid=derive_uid(source.SeriesInstanceUID, card.run_id, settings),
        series_number=read_number(source, "SeriesNumber", 0, MAX_SERIES_NUMBER) + SERIES_OFFSET,
        sop_instance_uid=derive_uid(source.SOPInstanceUID, card.run_id, settings),
        instance_number=read_number(source, "InstanceNumber", 0) or 1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=card.name,
        software_versions=card.version,
        device_serial_number=card.run_id,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=UTF_8,
        content_label="NERVE",
        content_description=f"Nerve, found by {card.name} {card.version}"[:MAX_TEXT_LENGTH],
        series_description=f"Nerve ({card.name} {card.version})"[:MAX_TEXT_LENGTH],
        omit_empty_frames=False,
    )
    segmentation.PatientOrientation = None  # type 2C; unknown for a hand-held probe
    segmentation.BurnedInAnnotation = "NO"
    segmentation.SegmentsOverlap = "YES" if len(segments) > 1 else "NO"
    _restore_source_class(segmentation, source)
    if "NumberOfFrames" in source:
        add_frames(segmentation, int(source.NumberOfFrames or 1))
    return segmentation


def has_outlines(card: Card, settings: AnswerSettings) -> bool:
    """Return whether there are segments for the outlines: the client asks for them, and the model has them."""
    return settings.outlines and card.postprocessing.outlines is not None


def _describe_segments(card: Card, settings: AnswerSettings) -> list[SegmentDescription]:
    nerve = _describe_nerve(1, NERVE_LABEL, AMBER, card, settings)
    if not has_outlines(card, settings):
        return [nerve]
    margins = card.postprocessing.outlines
    outlines = [_describe_nerve(n, label, SKY_BLUE, card, settings) for n, label in enumerate(OUTLINE_LABELS, 2)]
    for segment, promise in zip(outlines, OUTLINE_PROMISES, strict=True):
        if margins is None or card.refit or settings.smooth:
            segment.SegmentDescription = "Without a guarantee."
        else:
            shares = {"coverage": f"at least {margins.coverage:.0%}", "level": f"{margins.level:.0%}"}
            segment.SegmentDescription = promise.format(**shares)
    return [nerve, *outlines]


def _describe_nerve(
    number: int, label: str, colour: CIELabColor, card: Card, settings: AnswerSettings
) -> SegmentDescription:
    smoothing = {"smooth": "true"} if settings.smooth else {}
    algorithm = highdicom.AlgorithmIdentificationSequence(
        card.name,
        family=codes.DCM.ArtificialIntelligence,
        version=card.version,
        source=MANUFACTURER,
        parameters={"run": card.run_id, "commit": card.commit, "data": card.data} | smoothing,
    )
    return SegmentDescription(
        number,
        label,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=NERVE,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=colour,
    )


def _restore_source_class(segmentation: Segmentation, source: Dataset) -> None:
    """Restore the source's own SOP class in each reference to the source: `as_single_frame` sets another class.

    The walk also decodes the copied sequences. Otherwise pydicom would write their texts unchanged, in the source's
    character set.
    """

    def restore(dataset: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPClassUID":
            element.value = source.SOPClassUID

    segmentation.walk(restore)


def derive_uid(source_uid: str, run_id: str, settings: AnswerSettings) -> UID:
    """Return a UID that depends only on the arguments (PS3.5 B.2).

    source_uid: of the source. run_id: of the model. settings: what the client asked of the masks.
    """
    origin = [source_uid, run_id]
    if settings.min_confidence:
        origin.append(f"{settings.min_confidence:g}")
    if settings.smooth:
        origin.append(SMOOTHING)
    if settings.outlines:
        origin.append(OUTLINES)
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(origin)).int}")
