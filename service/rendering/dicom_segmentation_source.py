"""The header of an ultrasound, prepared as the source of a highdicom Segmentation."""

import copy
import re
from collections.abc import Callable
from typing import Any

from highdicom.enum import PatientSexValues
from pydicom import Dataset
from pydicom.uid import UltrasoundImageStorage
from pydicom.valuerep import DA, TM

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


def as_single_frame(source: Dataset) -> Dataset:
    """Return a copy of the header as an Ultrasound Image of one frame.

    highdicom requires more of the other ultrasound classes than ultrasound files have.
    """
    header = copy.deepcopy(source)
    header.SOPClassUID = UltrasoundImageStorage
    header.pop("NumberOfFrames", None)
    header.pop("FrameOfReferenceUID", None)  # has no meaning without positions, which ultrasound does not have
    for keyword, convert in COPIED_ATTRIBUTES.items():
        setattr(header, keyword, _convert_or_none(header.get(keyword), convert))
    return header


def _convert_or_none(value: Any, convert: Callable[[str], Any] | None) -> Any:
    """Return the value as the standard requires it, or None if it cannot be converted."""
    try:
        # ACR-NEMA dates and times have dots and colons. Old scanners still write them.
        return convert(re.sub("[.:-]", "", str(value))) if convert and value else value
    except ValueError:
        return None
