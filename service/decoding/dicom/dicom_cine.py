"""The frames of one DICOM file, each with its scan area and spacing.

The header is compared with the file before a pixel is decoded, and a compressed frame's own header with the file's.
Files may be large, so frames are read from disk one at a time.
"""

from typing import IO, Any

from pydicom.pixels import get_decoder

from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.dicom.codestream import check_codestream_size, decompress_frame
from service.decoding.dicom.dicom_header import malformed_error, read_header, unsupported_syntax_error
from service.decoding.dicom.frame_locations import (
    PixelElement,
    available_bytes,
    locate_compressed_frames,
    locate_uncompressed_frames,
    read_pixel_element,
)
from service.decoding.dicom.frame_rate import read_frame_rate
from service.decoding.dicom.header_checks import (
    check_frame_count,
    is_frame_count_missing,
    missing_frame_count_note,
    read_pixel_options,
    ultrasound_notes,
)
from service.decoding.dicom.pixel_values import to_grey_frame
from service.decoding.dicom.scan_area import find_scan_area
from service.decoding.dicom.uncompressed_layout import find_layout
from service.decoding.frame import Frame
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError

CODESTREAM_HEADER_BYTES = 65536  # allowed for a compressed frame beside twice its pixels


class DicomCine:
    """The frames of one DICOM file, numbered from 0.

    header: every element before the pixels, without values over `dicom_header.MAX_VALUE_BYTES`.
    frame_count: number of frames.
    notes: sentences about the whole file, for the reader of the answer.
    """

    def __init__(self, file: IO[bytes]):
        """file: open for reading; it stays open. Raises FrameError (400, 413, 422)."""
        try:
            self._open(file)
        except FrameError:
            raise
        except Exception as error:  # a hostile header makes pydicom raise exceptions of many classes
            raise malformed_error() from error

    def _open(self, file: IO[bytes]) -> None:
        self.header, self.file = read_header(file)
        self.notes = ultrasound_notes(self.header)
        syntax = self.header.file_meta.TransferSyntaxUID
        element = read_pixel_element(self.file, syntax)
        self.options = read_pixel_options(self.header)
        try:
            self.decoder = get_decoder(syntax)
        except NotImplementedError:  # video, for example MPEG-4, and syntaxes newer than pydicom
            raise unsupported_syntax_error(syntax) from None
        self._fragments = self._locate_frames(element)
        self.frame_count = len(self._fragments)
        if self.frame_count != self.options["number_of_frames"]:
            self.header.NumberOfFrames = self.frame_count
        self.scan_area, self.spacing_mm, notes = find_scan_area(self.header)
        self.notes += notes
        self.frame_rate_hz = read_frame_rate(self.header) if self.frame_count > 1 else None
        self.one_frame_options = {**self.options, "number_of_frames": 1, "pixel_vr": element.vr}

    def _locate_frames(self, element: PixelElement) -> list[list[tuple[int, int]]]:
        """Return the fragments of each frame. Correct `options` and add notes where the bytes disprove the header."""
        options = self.options
        if element.length is not None:
            layout = find_layout(self.header, options, available_bytes(self.file, element.length))
            self.notes += layout.notes
            options["photometric_interpretation"] = layout.interpretation
            return locate_uncompressed_frames(self.file.tell(), layout.frame_count, layout.frame_bytes)
        pixels = options["rows"] * options["columns"] * options["samples_per_pixel"]
        max_frame_bytes = 2 * (pixels * options["bits_allocated"] // 8) + CODESTREAM_HEADER_BYTES
        frame_count = None if is_frame_count_missing(self.header) else options["number_of_frames"]
        fragments = locate_compressed_frames(self.file, frame_count, max_frame_bytes)
        check_frame_count(len(fragments))
        if frame_count is None and len(fragments) > 1:
            self.notes += (missing_frame_count_note(len(fragments)),)
        return fragments

    def read_encoded(self, index: int) -> bytes:
        """Return one frame as it is stored in the file. index: from 0. One thread at a time may call it."""
        return b"".join(self._read(position, length) for position, length in self._fragments[index])

    def _read(self, position: int, length: int) -> bytes:
        self.file.seek(position)
        return self.file.read(length)

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Return the frame. Raises FrameError (400, 422). Several threads may call it at once."""
        try:
            stored = self._decode_pixels(encoded)
            grey = to_grey_frame(stored.pixels, self.options["photometric_interpretation"], self.header)
        except FrameError:
            raise
        except Exception as error:  # each decoder has exceptions of its own
            raise FrameError(ErrorCode.MALFORMED, f"Frame {index} is damaged: it cannot be decoded.") from error
        notes = self.notes + stored.notes + grey.notes
        return Frame(grey.pixels, self.scan_area, self.spacing_mm, index, notes, self.frame_rate_hz)

    def _decode_pixels(self, encoded: bytes) -> DecodedPixels:
        """Return (rows, columns) or (rows, columns, 3), as stored; colour as RGB."""
        options: dict[str, Any] = self.one_frame_options
        if not self.decoder.is_encapsulated:
            return DecodedPixels(self.decoder.as_array(encoded, index=0, **options)[0])
        check_codestream_size(encoded, options)
        return run_in_decoder_process(decompress_frame, encoded, options)
