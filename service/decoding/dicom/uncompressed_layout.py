"""How uncompressed pixels lie in a file whose header may be wrong: bytes of a frame, and number of frames."""

from typing import Any, NamedTuple

from pydicom import Dataset

from service.decoding.dicom.header_checks import check_frame_count, is_frame_count_missing, missing_frame_count_note
from service.errors import ErrorCode, FrameError


class UncompressedLayout(NamedTuple):
    """interpretation: the true Photometric Interpretation. notes: what the header got wrong."""

    interpretation: str
    frame_bytes: int
    frame_count: int
    notes: tuple[str, ...]


def find_layout(header: Dataset, options: dict[str, Any], pixel_bytes: int) -> UncompressedLayout:
    """Return the layout that the number of bytes proves.

    Where the bytes disprove the header they win, if one reading alone fits them. Raises FrameError 400 if none fits.

    options: of `read_pixel_options`. pixel_bytes: of all frames together; one byte of padding may follow them.
    """
    interpretation = options["photometric_interpretation"]
    notes: tuple[str, ...] = ()
    frame_count = options["number_of_frames"]
    full = options["rows"] * options["columns"] * options["samples_per_pixel"] * options["bits_allocated"] // 8
    subsampled = full // 3 * 2  # two pixels share their colour
    if interpretation == "YBR_FULL_422":
        if pixel_bytes >= frame_count * full:
            interpretation, notes = "YBR_FULL", (_layout_note("YBR_FULL_422", "YBR_FULL", "three bytes"),)
    elif interpretation == "YBR_FULL" and pixel_bytes in (frame_count * subsampled, frame_count * subsampled + 1):
        interpretation, notes = "YBR_FULL_422", (_layout_note("YBR_FULL", "YBR_FULL_422", "two bytes"),)
    frame_bytes = subsampled if interpretation == "YBR_FULL_422" else full

    available = pixel_bytes // frame_bytes
    if available < frame_count:
        reason = f"Its pixels have {pixel_bytes} bytes; {frame_count} of {frame_bytes} bytes each are needed."
        raise FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {frame_count} frame(s). {reason}")
    if available > frame_count and pixel_bytes - available * frame_bytes <= 1:
        if not is_frame_count_missing(header):
            reason = f"Its pixels are those of {available} frames. Correct the number of frames (0028,0008)."
            raise FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {frame_count} frame(s). {reason}")
        check_frame_count(available)
        notes += (missing_frame_count_note(available),)
        frame_count = available
    return UncompressedLayout(interpretation, frame_bytes, frame_count, notes)


def _layout_note(declared: str, true: str, pixel_size: str) -> str:
    return f"the header says {declared}, but the file has {pixel_size} for each pixel: it was read as {true}"
