"""pydicom's own checks of values, for the elements that decide about the frames.

pydicom itself checks a value when it is read: it then stops, or warns in the log without a name. Here its checks run
once for each element that this package uses, so that a note or an error names the element.
"""

from pydicom import Dataset, config
from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.valuerep import VALUE_LENGTH, validate_regex, validate_value

from service.errors import ErrorCode, FrameError

# Without a valid number in these, nobody knows where the pixels are and what they mean.
PIXEL_NUMBERS = (
    "SamplesPerPixel",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
OPTIONAL_VALUES = (
    "NumberOfFrames",
    "PixelSpacing",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "CineRate",
    "FrameTime",
    "FrameTimeVector",
    "RecommendedDisplayFrameRate",
)
PADDING = b" \0"


def check_pixel_numbers(header: Dataset) -> None:
    """Raise FrameError 400 for an element of PIXEL_NUMBERS that holds anything but one number."""
    for keyword in PIXEL_NUMBERS:
        try:
            value = header.get(keyword)
        except Exception as error:  # pydicom raises exceptions of many classes over a value of a wrong length
            raise _invalid_error(keyword) from error
        if value not in (None, "") and not isinstance(value, int):
            raise _invalid_error(keyword)


def drop_invalid_values(header: Dataset) -> tuple[str, ...]:
    """Remove the elements of OPTIONAL_VALUES that are not valid, and return a note on each.

    A text that is only too long for its value representation still has one meaning: it stays, with a note.
    """
    notes: tuple[str, ...] = ()
    for keyword in OPTIONAL_VALUES:
        element = header.get_item(keyword, keep_deferred=True)
        if not isinstance(element, RawDataElement):
            continue
        if not _is_readable(element):
            del header[keyword]
            notes += (f"{name_element(keyword)} is malformed: it was ignored",)
        elif not _is_valid(element):
            notes += (f"{name_element(keyword)} is longer than DICOM allows: it was used as it is",)
    return notes


def name_element(keyword: str) -> str:
    """Return the name and the tag of an element, for people."""
    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _is_readable(element: RawDataElement) -> bool:
    """Return whether the values have one meaning: as many as allowed, each with allowed characters."""
    length = VALUE_LENGTH.get(element.VR or "")
    if length:  # binary numbers, whatever the dictionary says
        return len(element.value or b"") % length == 0
    texts = _split(element)
    vr = dictionary_VR(element.tag)
    return (len(texts) == 1 or dictionary_VM(element.tag) != "1") and all(validate_regex(vr, text)[0] for text in texts)


def _is_valid(element: RawDataElement) -> bool:
    """Return whether pydicom finds no fault in the values."""
    if element.VR in VALUE_LENGTH:
        return True
    try:
        for text in _split(element):
            validate_value(dictionary_VR(element.tag), text, config.RAISE)
    except ValueError:
        return False
    return True


def _split(element: RawDataElement) -> list[bytes]:
    return (element.value or b"").rstrip(PADDING).split(b"\\")


def _invalid_error(keyword: str) -> FrameError:
    message = f"{name_element(keyword)} of the DICOM header is not a valid number: correct it."
    return FrameError(ErrorCode.MALFORMED, message)
