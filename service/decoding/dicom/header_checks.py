"""Check that a DICOM header declares ultrasound, and pixels that can be read."""

import io
from typing import Any, NamedTuple

from pydicom import Dataset, uid
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.pixels.utils import as_pixel_options

from service.decoding.dicom.value_validation import check_pixel_numbers, drop_invalid_values, name_element
from service.decoding.frame import MAX_FRAMES, MAX_PIXELS, MIN_SIDE_PX, too_many_pixels_error
from service.errors import ErrorCode, FrameError

BITS_ALLOCATED = (8, 16)
SAMPLES_PER_PIXEL = (1, 3)  # grey or palette, and colour

MULTI_FRAME_CLASSES = (
    uid.UltrasoundMultiFrameImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.3"),  # the class before 1998: retired, and still in archives
)
ULTRASOUND_CLASSES = (
    uid.UltrasoundImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.6"),  # the class before 1998
    *MULTI_FRAME_CLASSES,
)
VOLUME_CLASS = uid.EnhancedUSVolumeStorage
# Frame grabbers and img2dcm write these. Nothing in them shows whether the picture comes from a scanner.
SECONDARY_CAPTURE_CLASSES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)


def ultrasound_notes(header: Dataset) -> tuple[str, ...]:
    """Return the notes on a file that may not be ultrasound. Raises FrameError 422 when it is not ultrasound."""
    sop_class, modality = uid.UID(header.get("SOPClassUID", "")), str(header.get("Modality") or "").strip()
    if sop_class in ULTRASOUND_CLASSES and modality in ("US", ""):
        return ()
    if sop_class in SECONDARY_CAPTURE_CLASSES and modality == "US":
        return ()
    if sop_class in SECONDARY_CAPTURE_CLASSES and modality in ("OT", ""):
        return (f"a secondary capture of modality {modality or 'unknown'} was taken for an ultrasound frame",)
    if sop_class == VOLUME_CLASS:
        message = (
            "Enhanced US Volume, three-dimensional ultrasound, is not segmented. "
            "Export the planes as Ultrasound Image or Ultrasound Multi-frame Image."
        )
        raise FrameError(ErrorCode.NOT_ULTRASOUND, message)
    kind = f"{sop_class.name or 'no SOP class'}, modality {modality or 'unknown'}"
    raise FrameError(ErrorCode.NOT_ULTRASOUND, f"Only ultrasound is segmented; this is {kind[:200]}.")


class PixelOptions(NamedTuple):
    """Shape and type of the pixels as pydicom's decoders take them, and what the header got wrong."""

    options: dict[str, Any]
    notes: tuple[str, ...]


def add_missing_elements(header: Dataset) -> None:
    """Set elements of the Image Pixel module that small encoders leave out, where one value alone makes sense."""
    if header.get("SamplesPerPixel") is None:
        interpretation = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
        header.SamplesPerPixel = 1 if interpretation.startswith(("MONOCHROME", "PALETTE")) else 3
    if not header.get("PhotometricInterpretation"):
        header.PhotometricInterpretation = "MONOCHROME2" if header.SamplesPerPixel == 1 else "RGB"
    if header.get("BitsAllocated") is None:
        header.BitsAllocated = 8 if (header.get("BitsStored") or 8) <= 8 else 16
    if header.get("BitsStored") is None:
        header.BitsStored = header.BitsAllocated
    if header.get("PixelRepresentation") is None:
        header.PixelRepresentation = 0
    if header.SamplesPerPixel > 1 and header.get("PlanarConfiguration") is None:
        header.PlanarConfiguration = 0
    if not declared_frame_count(header):
        header.pop("NumberOfFrames", None)


def correct_interpretation(header: Dataset) -> tuple[str, ...]:
    """Write the Photometric Interpretation as the standard does. Return a note if that changes more than blanks."""
    declared = str(header.get("PhotometricInterpretation") or "")
    interpretation = declared.strip().upper()
    if not interpretation:
        return ()
    header.PhotometricInterpretation = interpretation
    if interpretation == declared.strip():
        return ()
    return (f"{name_element('PhotometricInterpretation')} is malformed: it was read as {interpretation[:16]}",)


def declared_frame_count(header: Dataset) -> int | None:
    """Return the number of frames; None if the header does not have it."""
    try:
        return int(header.get("NumberOfFrames"))
    except (TypeError, ValueError):
        return None


def is_frame_count_missing(header: Dataset) -> bool:
    """Return whether a file of a multi-frame class does not say how many frames it has."""
    return header.get("SOPClassUID") in MULTI_FRAME_CLASSES and "NumberOfFrames" not in header


def missing_frame_count_note(frame_count: int) -> str:
    """Return the note on frames that were counted in the pixels."""
    return f"the header does not say how many frames the file has: its pixels are those of {frame_count} frames"


def read_pixel_options(header: Dataset) -> PixelOptions:
    """Return shape and type of the pixels, as the header declares them. Raises FrameError (400, 413, 422).

    Keys: rows, columns, number_of_frames, samples_per_pixel, bits_allocated, photometric_interpretation, ...
    number_of_frames is 1 if the header does not say it. The header is changed: missing elements of the Image Pixel
    module are added, and optional elements that are not valid are removed.
    """
    check_pixel_numbers(header)
    notes = drop_invalid_values(header) + correct_interpretation(header)
    if not (header.get("Rows") and header.get("Columns")):
        raise FrameError(ErrorCode.NO_PIXELS, "The DICOM file declares no rows or no columns.")
    if declared_frame_count(header) == 0:
        notes += (f"{name_element('NumberOfFrames')} is 0: it was ignored",)
    add_missing_elements(header)
    options = as_pixel_options(header)
    options.pop("extended_offsets", None)  # of all frames; the decoders get one frame
    rows, columns, frame_count = options["rows"], options["columns"], options["number_of_frames"]
    if rows * columns > MAX_PIXELS:
        raise too_many_pixels_error(MAX_PIXELS)
    check_frame_count(frame_count)
    if min(rows, columns) < MIN_SIDE_PX:
        size, min_size = f"{columns}x{rows}", f"{MIN_SIDE_PX}x{MIN_SIDE_PX}"
        raise FrameError(ErrorCode.TOO_SMALL, f"The frame has {size} pixels. Send at least {min_size} pixels.")
    samples, bits = options["samples_per_pixel"], options["bits_allocated"]
    if bits not in BITS_ALLOCATED or samples not in SAMPLES_PER_PIXEL:
        message = f"The pixels have {samples} samples of {bits} bits. Send 8- or 16-bit grey or colour."
        raise FrameError(ErrorCode.PIXEL_TYPE, message)
    options |= {"pixel_keyword": "PixelData", "transfer_syntax_uid": header.file_meta.TransferSyntaxUID}
    _check_with_pydicom(options)
    return PixelOptions(options, notes)


def _check_with_pydicom(options: dict[str, Any]) -> None:
    """Raise FrameError 400 for options that pydicom's decoders would refuse; pydicom's message names the element."""
    runner = DecodeRunner(options["transfer_syntax_uid"])
    runner.set_source(io.BytesIO())  # the bytes of the pixels are checked elsewhere
    runner.set_options(**options)
    try:
        runner.validate()
    except (AttributeError, ValueError) as error:
        raise FrameError(ErrorCode.MALFORMED, f"The DICOM header is invalid. {str(error)[:200]}.") from error


def check_frame_count(frame_count: int) -> None:
    """Raise FrameError 413 for a cine with too many frames."""
    if frame_count > MAX_FRAMES:
        message = f"The cine declares {frame_count} frames. Send at most {MAX_FRAMES} frames."
        raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
