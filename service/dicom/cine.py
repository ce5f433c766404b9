"""A DICOM upload to frames: ultrasound alone, frame after frame, each with its scan area and spacing.

Nothing here trusts the header. What it declares is held against what is there before a pixel is decoded, and a
compressed frame's own header against the file's. Files may be large: pixels are read from the disk, a frame at a time.
"""

import struct
from typing import Any, BinaryIO

import cv2
import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_voi, apply_voi_lut, get_decoder
from pydicom.pixels.utils import as_pixel_options

from service.dicom.scan_area import cine_rate, scan_area
from service.dicom.structure import REMEDY, compressed_frames, malformed, pixel_length, read_header, uncompressed_frames
from service.errors import FrameError
from service.frame import LEAST_SIDE_PX, LIMIT_PX, Frame, too_large
from service.isolation import isolated

LIMIT_FRAMES = 10_000

ULTRASOUND = (
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.6"),  # both, as they were before 1998: retired, and still met
    uid.UID("1.2.840.10008.5.1.4.1.1.3"),
)
# What a frame grabber or img2dcm writes: nothing in them says whether a scanner's screen was captured.
CAPTURES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
# Of two decoders the quicker, where it is not pydicom's first: JPEG in 0.6 ms instead of 2.7, JPEG-LS in 3.4 instead of
# 4.9, RLE in 0.2 instead of 0.8, each of a frame of 580x420.
QUICKER = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.RLELossless: "pylibjpeg",
}
# Start of frame, any of its kinds, JPEG-LS' own among them (ITU-T T.81 B.1.1.3, T.87 C.1.1).
JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


class DicomCine:
    """The frames of one DICOM file. header: all of it but the pixels; count: how many frames it holds."""

    def __init__(self, file: BinaryIO):
        """file: open for reading, and left open. Raises FrameError (400, 413, 422)."""
        try:
            self._open(file)
        except FrameError:
            raise
        except Exception as fault:  # a hostile header makes pydicom raise nearly anything
            raise malformed() from fault

    def _open(self, file: BinaryIO) -> None:
        self.file = file
        self.header = read_header(file)
        self.notes = _check_kind(self.header)
        syntax = self.header.file_meta.TransferSyntaxUID
        length = pixel_length(file, syntax)
        self.options = _checked_options(self.header)
        self.count = int(self.options["number_of_frames"])
        try:
            self.decoder = get_decoder(syntax)
        except NotImplementedError:  # films, as MPEG-4, and what is newer than pydicom
            raise FrameError("transfer_syntax", f"{syntax.name} is not read: {REMEDY}.", 422) from None
        if self.decoder.is_encapsulated:
            self._frames = compressed_frames(file, self.count, 2 * self.frame_bytes + 65536)
        else:
            self._frames = uncompressed_frames(file, length, self.count, self.frame_bytes)
        self.area, self.spacing, notes = scan_area(self.header)
        self.notes += notes
        self.rate = cine_rate(self.header) if self.count > 1 else None
        self.one_frame = {**self.options, "number_of_frames": 1, "decoding_plugin": QUICKER.get(syntax, "")}

    def encoded_at(self, index: int) -> bytes:
        """One frame as it stands in the file, for `decode`. index: 0 to count - 1. From one thread at a time."""
        return b"".join(self._read(at, length) for at, length in self._frames[index])

    def _read(self, at: int, length: int) -> bytes:
        self.file.seek(at)
        return self.file.read(length)

    def decode(self, encoded: bytes, index: int) -> Frame:
        """The frame. Raises FrameError (400, 422). May be called from several threads."""
        try:
            if self.decoder.is_encapsulated:
                self._check_codestream(encoded)
                pixels = isolated(decompressed, encoded, self.one_frame)
            else:
                pixels, _ = self.decoder.as_array(encoded, index=0, **self.one_frame)
            grey = _grey(pixels, self.options["photometric_interpretation"], self.header)
        except FrameError:
            raise
        except Exception as fault:  # each decoder has exceptions of its own
            raise FrameError("malformed", f"Frame {index} is damaged: it cannot be decoded.", 400) from fault
        return Frame(grey, self.area, self.spacing, index, self.notes, self.rate)

    @property
    def frame_bytes(self) -> int:
        """Of one uncompressed frame."""
        told = self.options
        samples = told["rows"] * told["columns"] * told["samples_per_pixel"]
        if told["photometric_interpretation"] == "YBR_FULL_422" and not self.decoder.is_encapsulated:
            samples = samples // 3 * 2  # two pixels share their colour
        return int(samples * told["bits_allocated"] // 8)

    def _check_codestream(self, encoded: bytes) -> None:
        """A compressed frame carries a size of its own, which a decoder would believe."""
        size = _codestream_size(encoded, self.header.file_meta.TransferSyntaxUID)
        if size not in (None, (self.options["rows"], self.options["columns"])):
            raise FrameError("malformed", f"A compressed frame is of another size ({size}) than the file says.", 400)


def decompressed(encoded: bytes, options: dict[str, Any]) -> np.ndarray:
    """The pixels of one compressed frame as pydicom's decoders give them, YBR as RGB. They raise nearly anything."""
    encoded = encapsulate([encoded], has_bot=False)
    return get_decoder(options["transfer_syntax_uid"]).as_array(encoded, index=0, **options)[0]


def _check_kind(header: Dataset) -> tuple[str, ...]:
    """Refuse what is no ultrasound; gives back what has to be said of what may be none."""
    kind, modality = uid.UID(header.get("SOPClassUID", "")), header.get("Modality") or ""
    if kind in ULTRASOUND and modality in ("US", ""):
        return ()
    if kind in CAPTURES and modality == "US":
        return ()
    if kind in CAPTURES and modality in ("OT", ""):
        return (f"a secondary capture of modality {modality or 'unknown'} was taken for an ultrasound frame",)
    found = f"{kind.name or 'no SOP class'}, modality {modality or 'unknown'}"
    raise FrameError("not_ultrasound", f"Only ultrasound is segmented; this is {found[:200]}.", 422)


def _checked_options(header: Dataset) -> dict[str, Any]:
    """The image's shape and type as pydicom's decoders take them, all within bounds."""
    if not (header.get("Rows") and header.get("Columns")):
        raise FrameError("no_pixels", "The DICOM file declares no rows or no columns.", 422)
    options = as_pixel_options(header)
    rows, columns, frames = options["rows"], options["columns"], options["number_of_frames"]
    if frames < 1:
        raise malformed()
    if rows * columns > LIMIT_PX:
        raise too_large(LIMIT_PX)
    if frames > LIMIT_FRAMES:
        raise FrameError("too_many_frames", f"The cine declares {frames} frames; {LIMIT_FRAMES} are the most.", 413)
    if min(rows, columns) < LEAST_SIDE_PX:
        size = f"{columns}x{rows}"
        least = f"{LEAST_SIDE_PX}x{LEAST_SIDE_PX} are the least"
        raise FrameError("too_small", f"The frame is {size} pixels; {least}.", 422)
    if options["bits_allocated"] not in (8, 16) or options["samples_per_pixel"] not in (1, 3):
        told = f"{options['samples_per_pixel']} samples of {options['bits_allocated']} bits"
        raise FrameError("pixel_type", f"The pixels are {told}; 8- and 16-bit grey or colour are read.", 422)
    return {**options, "pixel_keyword": "PixelData", "transfer_syntax_uid": header.file_meta.TransferSyntaxUID}


def _grey(pixels: np.ndarray, interpretation: str, header: Dataset) -> np.ndarray:
    """Decoded pixels as a viewer would show them in grey: uint8 or uint16 (height, width), the full range used."""
    if interpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        if pixels.dtype == np.uint16:
            pixels = (pixels // 257).astype(np.uint8)  # palettes of 16 bits hold 8 that matter
    if pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    bits = int(header.BitsStored)
    lowest = -(2 ** (bits - 1)) if pixels.dtype.kind == "i" else 0
    if header.get("VOILUTSequence"):  # what it gives has no sign, and a depth of its own
        pixels, lowest = apply_voi(pixels, header), 0
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    else:  # a window, if there is one, is spread over the range of the pixels as they are stored
        pixels = apply_voi_lut(pixels, header)
    if pixels.dtype != np.uint8 or bits != 8:
        full = 255 if bits <= 8 else 65535
        stretched = (pixels.astype(np.float64) - lowest) * (full / (2**bits - 1))
        pixels = stretched.round().clip(0, full).astype(np.uint8 if bits <= 8 else np.uint16)
    if interpretation == "MONOCHROME1":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return np.ascontiguousarray(pixels)


def _codestream_size(encoded: bytes, syntax: uid.UID) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None for RLE, which declares none."""
    if syntax == uid.RLELossless:
        return None
    if syntax in uid.JPEG2000TransferSyntaxes:
        at = encoded.find(b"\xff\x4f\xff\x51")  # SOC and SIZ (ISO/IEC 15444-1, A.5.1)
        right, bottom, left, top = struct.unpack_from(">LLLL", encoded, at + 8)
        return bottom - top, right - left
    at = 2  # behind SOI
    while encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker in JPEG_FRAME_MARKERS:
            return struct.unpack_from(">HH", encoded, at + 5)  # type: ignore[return-value]
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", encoded, at + 2)[0]
    raise malformed()
