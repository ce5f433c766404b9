"""Check that a DICOM header declares ultrasound, and pixels that can be read."""

from typing import Any

from pydicom import Dataset, uid
from pydicom.pixels.utils import as_pixel_options

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
    sop_class, modality = uid.UID(header.get("SOPClassUID", "")), header.get("Modality") or ""
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
    if declared_frame_count(header) is None:
        header.pop("NumberOfFrames", None)


def declared_frame_count(header: Dataset) -> int | None:
    """Return the number of frames; None if the header does not have it, or as text that is no number."""
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


def read_pixel_options(header: Dataset) -> dict[str, Any]:
    """Return shape and type of the pixels as pydicom's decoders take them. Raises FrameError (413, 422).

    Keys: rows, columns, number_of_frames, samples_per_pixel, bits_allocated, photometric_interpretation, ...
    number_of_frames is 1 if the header does not say it.
    """
    if not (header.get("Rows") and header.get("Columns")):
        raise FrameError(ErrorCode.NO_PIXELS, "The DICOM file declares no rows or no columns.")
    add_missing_elements(header)
    options = as_pixel_options(header)
    rows, columns, frame_count = options["rows"], options["columns"], options["number_of_frames"]
    if rows * columns > MAX_PIXELS:
        raise too_many_pixels_error(MAX_PIXELS)
    if frame_count < 1:
        raise FrameError(ErrorCode.MALFORMED, f"The DICOM file declares {frame_count} frames.")
    check_frame_count(frame_count)
    if min(rows, columns) < MIN_SIDE_PX:
        size, min_size = f"{columns}x{rows}", f"{MIN_SIDE_PX}x{MIN_SIDE_PX}"
        raise FrameError(ErrorCode.TOO_SMALL, f"The frame has {size} pixels. Send at least {min_size} pixels.")
    samples, bits = options["samples_per_pixel"], options["bits_allocated"]
    if bits not in BITS_ALLOCATED or samples not in SAMPLES_PER_PIXEL:
        message = f"The pixels have {samples} samples of {bits} bits. Send 8- or 16-bit grey or colour."
        raise FrameError(ErrorCode.PIXEL_TYPE, message)
    return {**options, "pixel_keyword": "PixelData", "transfer_syntax_uid": header.file_meta.TransferSyntaxUID}


def check_frame_count(frame_count: int) -> None:
    """Raise FrameError 413 for a cine with too many frames."""
    if frame_count > MAX_FRAMES:
        message = f"The cine declares {frame_count} frames. Send at most {MAX_FRAMES} frames."
        raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
