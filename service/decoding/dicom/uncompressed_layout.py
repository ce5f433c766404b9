"""How uncompressed pixels lie in a file whose header may be wrong: bytes of a frame, and number of frames."""

from typing import Any, NamedTuple

from pydicom import Dataset

from service.decoding.dicom.header_checks import check_frame_count, is_frame_count_missing
from service.errors import ErrorCode, FrameError

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422")
# Colours of JPEG 2000. Programs that decompress it often keep the name, and write RGB.
DECOMPRESSED = ("YBR_ICT", "YBR_RCT")
FULL, SUBSAMPLED = "three bytes", "two bytes"  # two pixels of a subsampled frame share their colour


class UncompressedLayout(NamedTuple):
    """interpretation: the true Photometric Interpretation. notes: what the header got wrong."""

    interpretation: str
    frame_bytes: int
    frame_count: int
    notes: tuple[str, ...]


def find_layout(header: Dataset, options: dict[str, Any], pixel_bytes: int) -> UncompressedLayout:
    """Return the layout that the number of bytes proves.

    Where the bytes disprove the header they win, if one reading alone fits them. Raises FrameError: 400 if none fits,
    422 for colours that are not read.

    options: of `read_pixel_options`. pixel_bytes: of all frames together.
    """
    frame_count = options["number_of_frames"]
    full = options["rows"] * options["columns"] * options["samples_per_pixel"] * options["bits_allocated"] // 8
    subsampled = full // 3 * 2
    interpretation, notes = _true_interpretation(options)
    if interpretation == "YBR_FULL_422":
        if pixel_bytes >= frame_count * full:
            interpretation, notes = "YBR_FULL", (_layout_note("YBR_FULL_422", "YBR_FULL", FULL),)
    elif interpretation == "YBR_FULL" and pixel_bytes in (frame_count * subsampled, frame_count * subsampled + 1):
        interpretation, notes = "YBR_FULL_422", (_layout_note("YBR_FULL", "YBR_FULL_422", SUBSAMPLED),)
    frame_bytes = subsampled if interpretation == "YBR_FULL_422" else full

    available = pixel_bytes // frame_bytes
    if available < frame_count:
        reason = f"Its pixels have {pixel_bytes} bytes; {frame_count} of {frame_bytes} bytes each are needed."
        raise FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {frame_count} frame(s). {reason}")
    if available > frame_count:
        if not is_frame_count_missing(header):
            reason = f"Its pixels are those of {available} frames: correct its number of frames, or of bits and samples"
            raise FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {frame_count} frame(s). {reason}.")
        check_frame_count(available)
        frame_count = available
    excess = pixel_bytes - frame_count * frame_bytes
    if excess > 1:  # one byte makes the length even
        notes += excess_note(excess, options)
    return UncompressedLayout(interpretation, frame_bytes, frame_count, notes)


def excess_note(excess: int, options: dict[str, Any]) -> tuple[str, ...]:
    """Return the note on bytes that the header does not explain."""
    size = f"{options['columns']}x{options['rows']}"
    return (
        f"the pixels have {excess} bytes more than frames of {size} need: if the picture is distorted, that is why",
    )


def _true_interpretation(options: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the Photometric Interpretation that fits the samples of a pixel, and a note if the header has another."""
    declared: str = options["photometric_interpretation"]
    if options["samples_per_pixel"] == 1:
        if declared in GREY:
            return declared, ()
        return "MONOCHROME2", (f"the header says {declared}, but a pixel has one sample: it was read as MONOCHROME2",)
    if declared in COLOUR:
        return declared, ()
    if declared in GREY:
        return "RGB", (f"the header says {declared}, but a pixel has three samples: it was read as RGB",)
    if declared in DECOMPRESSED:
        return "RGB", (f"the header says {declared}, but the pixels are not compressed: they were read as RGB",)
    message = f"The Photometric Interpretation {declared} is not read in uncompressed pixels. Send RGB or YBR_FULL."
    raise FrameError(ErrorCode.PIXEL_TYPE, message)


def _layout_note(declared: str, true: str, pixel_size: str) -> str:
    return f"the header says {declared}, but the file has {pixel_size} for each pixel: it was read as {true}"
