"""Check that a DICOM header declares ultrasound, and pixels that can be read."""

from typing import Any

from pydicom import Dataset, uid
from pydicom.pixels.utils import as_pixel_options

from service.decoding.dicom.dicom_header import malformed_error
from service.decoding.frame import MAX_PIXELS, MIN_SIDE_PX, too_many_pixels_error
from service.errors import ErrorCode, FrameError

MAX_FRAMES = 10_000
BITS_ALLOCATED = (8, 16)
SAMPLES_PER_PIXEL = (1, 3)  # grey or palette, and colour

ULTRASOUND_CLASSES = (
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.6"),  # the single-frame class before 1998: retired, and still in archives
    uid.UID("1.2.840.10008.5.1.4.1.1.3"),  # the multi-frame class before 1998
)
# Frame grabbers and img2dcm write these. Nothing in them shows whether the picture comes from a scanner.
SECONDARY_CAPTURE_CLASSES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)


def check_ultrasound(header: Dataset) -> tuple[str, ...]:
    """Return the notes on a file that may not be ultrasound. Raises FrameError 422 when it is not ultrasound."""
    sop_class, modality = uid.UID(header.get("SOPClassUID", "")), header.get("Modality") or ""
    if sop_class in ULTRASOUND_CLASSES and modality in ("US", ""):
        return ()
    if sop_class in SECONDARY_CAPTURE_CLASSES and modality == "US":
        return ()
    if sop_class in SECONDARY_CAPTURE_CLASSES and modality in ("OT", ""):
        return (f"a secondary capture of modality {modality or 'unknown'} was taken for an ultrasound frame",)
    kind = f"{sop_class.name or 'no SOP class'}, modality {modality or 'unknown'}"
    raise FrameError(ErrorCode.NOT_ULTRASOUND, f"Only ultrasound is segmented; this is {kind[:200]}.")


def check_pixel_options(header: Dataset) -> dict[str, Any]:
    """Return shape and type of the pixels as pydicom's decoders take them. Raises FrameError (400, 413, 422).

    Keys: rows, columns, number_of_frames, samples_per_pixel, bits_allocated, photometric_interpretation, ...
    """
    if not (header.get("Rows") and header.get("Columns")):
        raise FrameError(ErrorCode.NO_PIXELS, "The DICOM file declares no rows or no columns.")
    options = as_pixel_options(header)
    rows, columns, frame_count = options["rows"], options["columns"], options["number_of_frames"]
    if frame_count < 1:
        raise malformed_error()
    if rows * columns > MAX_PIXELS:
        raise too_many_pixels_error(MAX_PIXELS)
    if frame_count > MAX_FRAMES:
        message = f"The cine declares {frame_count} frames. Send at most {MAX_FRAMES} frames."
        raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
    if min(rows, columns) < MIN_SIDE_PX:
        size, min_size = f"{columns}x{rows}", f"{MIN_SIDE_PX}x{MIN_SIDE_PX}"
        raise FrameError(ErrorCode.TOO_SMALL, f"The frame has {size} pixels. Send at least {min_size} pixels.")
    samples, bits = options["samples_per_pixel"], options["bits_allocated"]
    if bits not in BITS_ALLOCATED or samples not in SAMPLES_PER_PIXEL:
        message = f"The pixels have {samples} samples of {bits} bits. Send 8- or 16-bit grey or colour."
        raise FrameError(ErrorCode.PIXEL_TYPE, message)
    return {**options, "pixel_keyword": "PixelData", "transfer_syntax_uid": header.file_meta.TransferSyntaxUID}
