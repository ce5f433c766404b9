"""The header of an ultrasound, prepared as the source of a highdicom Segmentation."""

import copy
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from highdicom.enum import PatientSexValues
from pydicom import Dataset
from pydicom.uid import UID, UltrasoundImageStorage
from pydicom.valuerep import DA, TM

from service.errors import ErrorCode, FrameError

log = logging.getLogger("bentoml.nervemask")

MAX_INTEGER_STRING = 2**31 - 1  # of the value representation IS (PS3.5 6.2)
SERIES_OFFSET = 1000  # added to the source's series number: viewers list the segmentation after its source
MAX_SERIES_NUMBER = MAX_INTEGER_STRING - SERIES_OFFSET
# Attributes of patient and study that highdicom copies, and requires. All may be empty (type 2). The conversion raises
# ValueError for a value that the standard does not allow; None: any text is allowed.
COPIED_ATTRIBUTES: dict[str, Callable[[str], Any] | None] = {
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
REQUIRED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@contextmanager
def raise_as_header_error() -> Iterator[None]:
    """Turn any exception into FrameError 422, and log its class and place.

    pydicom parses elements when they are first read. A segmentation reads elements that the frames do not need. A
    damaged element raises exceptions of many classes.
    """
    try:
        yield
    except Exception as error:
        # Without the exception's message, which may quote the patient's header.
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.info("the DICOM header is damaged: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
        message = "The DICOM header is damaged: no segmentation can refer to it."
        raise FrameError(ErrorCode.HEADER, message, 422) from error


def as_single_frame(source: Dataset) -> Dataset:
    """Return a copy of the header as an Ultrasound Image of one frame, without values that are not valid.

    highdicom requires more of the other ultrasound classes than ultrasound files have.
    """
    header = copy.deepcopy(source)
    header.SOPClassUID = UltrasoundImageStorage
    header.pop("NumberOfFrames", None)
    header.pop("FrameOfReferenceUID", None)  # has no meaning without positions, which ultrasound does not have
    if not _has_valid_spacing(header):
        header.pop("PixelSpacing", None)
    for keyword, convert in COPIED_ATTRIBUTES.items():
        setattr(header, keyword, _convert_or_none(header.get(keyword), convert))
    return header


def read_number(source: Dataset, keyword: str, default: int, maximum: int = MAX_INTEGER_STRING) -> int:
    """Return a number of the header, 0..maximum, or the default if it has none or an invalid one."""
    try:
        number = int(source.get(keyword))
    except (TypeError, ValueError):
        return default
    return number if 0 <= number <= maximum else default


@raise_as_header_error()
def invalid_value_notes(source: Dataset) -> tuple[str, ...]:
    """Return a note on each value of the header that is not valid. A segmentation repeats only invalid UIDs.

    Raises FrameError 422 if the header is damaged.
    """
    dropped = [
        keyword
        for keyword, convert in COPIED_ATTRIBUTES.items()
        if source.get(keyword) and _convert_or_none(source.get(keyword), convert) is None
    ]
    for keyword, maximum in (("SeriesNumber", MAX_SERIES_NUMBER), ("InstanceNumber", MAX_INTEGER_STRING)):
        if source.get(keyword) not in (None, "") and read_number(source, keyword, -1, maximum) < 0:
            dropped.append(keyword)
    notes = [f"{keyword} is not valid in the header: the segmentation leaves it out" for keyword in dropped]
    for keyword in REQUIRED_UIDS:
        if not UID(str(source.get(keyword) or "")).is_valid:
            notes.append(f"{keyword} is not valid in the header: the segmentation repeats it, to refer to this file")
    return tuple(notes)


def _has_valid_spacing(header: Dataset) -> bool:
    try:
        return all(float(side) > 0 for side in header.get("PixelSpacing") or [])
    except (TypeError, ValueError):
        return False


def _convert_or_none(value: Any, convert: Callable[[str], Any] | None) -> Any:
    """Return the value as the standard requires it, or None if it cannot be converted."""
    try:
        # ACR-NEMA dates and times have dots and colons. Old scanners still write them.
        return convert(re.sub("[.:-]", "", str(value))) if convert and value else value
    except ValueError:
        return None
