"""Check the service's response before the bridge stores it: it must be a segmentation, and of the source's study."""

from typing import IO, Any

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from service.clients.bridge_http_client import RejectedError
from service.decoding.dicom.dicom_header import read_header

PREAMBLE_BYTES = 128
LAST_TAG = Tag("StudyInstanceUID")
TAGS: list[BaseTag | int] = [Tag("SOPClassUID"), Tag("SOPInstanceUID"), LAST_TAG]


def check_segmentation(segmentation: IO[bytes], source: IO[bytes]) -> str:
    """Return the SOP Instance UID of a segmentation.

    segmentation, source: DICOM files.

    Raises RejectedError if it is no DICOM Segmentation, or belongs to another study than its source.
    """
    try:
        header = _read_identity(segmentation)
        source.seek(0)
        study_uid = read_header(source).header.StudyInstanceUID
        uid = str(header.SOPInstanceUID)
    except Exception as error:  # pydicom raises many classes over a damaged file; their messages may quote the patient
        raise RejectedError(f"the service: the response is no DICOM Segmentation ({type(error).__name__})") from error
    if header.StudyInstanceUID != study_uid:
        raise RejectedError("the service: the response is a segmentation of another study")
    return uid


def _read_identity(segmentation: Any) -> Dataset:
    """Return SOP class, SOP Instance UID and Study Instance UID. Raises any exception if they cannot be read.

    The service writes Explicit VR Little Endian. With another transfer syntax a few kilobytes may inflate to gigabytes.
    """
    segmentation.seek(PREAMBLE_BYTES)
    if segmentation.read(4) != b"DICM":
        raise ValueError("no DICOM file")
    file_meta = read_dataset(segmentation, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        raise ValueError("another transfer syntax")
    header = read_dataset(segmentation, False, True, stop_when=lambda tag, *_: tag > LAST_TAG, specific_tags=TAGS)
    if header.SOPClassUID != SegmentationStorage:
        raise ValueError("another SOP class")
    return header
