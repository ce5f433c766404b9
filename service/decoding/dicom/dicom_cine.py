"""The frames of one DICOM file, each with its scan area and spacing.

The header is compared with the file before a pixel is decoded, and a compressed frame's own header with the file's.
Files may be large, so frames are read from disk one at a time.
"""

from typing import IO

import numpy as np
from pydicom.pixels import get_decoder

from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.dicom.codestream import FASTER_PLUGINS, check_codestream_size, decompress_frame
from service.decoding.dicom.dicom_header import malformed_error, read_header, unsupported_transfer_syntax
from service.decoding.dicom.frame_locations import (
    locate_compressed_frames,
    locate_uncompressed_frames,
    read_pixel_length,
)
from service.decoding.dicom.frame_rate import read_frame_rate
from service.decoding.dicom.header_checks import check_pixel_options, check_ultrasound
from service.decoding.dicom.pixel_values import to_grey
from service.decoding.dicom.scan_area import find_scan_area
from service.decoding.frame import Frame
from service.errors import ErrorCode, FrameError

CODESTREAM_HEADER_BYTES = 65536  # allowed for a compressed frame beside twice its pixels


class DicomCine:
    """The frames of one DICOM file, numbered from 0.

    header: every element before the pixels, without values over `dicom_header.MAX_VALUE_BYTES`. frame_count: number of
    frames. notes: sentences about the whole file, for the reader of the answer.
    """

    def __init__(self, file: IO[bytes]):
        """file: open for reading; it stays open. Raises FrameError (400, 413, 422)."""
        try:
            self._open(file)
        except FrameError:
            raise
        except Exception as error:  # a hostile header makes pydicom raise nearly anything
            raise malformed_error() from error

    def _open(self, file: IO[bytes]) -> None:
        self.file = file
        self.header = read_header(file)
        self.notes = check_ultrasound(self.header)
        syntax = self.header.file_meta.TransferSyntaxUID
        pixel_bytes = read_pixel_length(file, syntax)
        self.options = check_pixel_options(self.header)
        self.frame_count = int(self.options["number_of_frames"])
        try:
            self.decoder = get_decoder(syntax)
        except NotImplementedError:  # video, for example MPEG-4, and syntaxes newer than pydicom
            raise unsupported_transfer_syntax(syntax) from None
        if self.decoder.is_encapsulated:
            max_frame_bytes = 2 * self.frame_bytes + CODESTREAM_HEADER_BYTES
            self._fragments = locate_compressed_frames(file, self.frame_count, max_frame_bytes)
        else:
            self._fragments = locate_uncompressed_frames(file, pixel_bytes, self.frame_count, self.frame_bytes)
        self.scan_area, self.spacing_mm, notes = find_scan_area(self.header)
        self.notes += notes
        self.frame_rate_hz = read_frame_rate(self.header) if self.frame_count > 1 else None
        plugin = FASTER_PLUGINS.get(syntax, "")
        self.one_frame_options = {**self.options, "number_of_frames": 1, "decoding_plugin": plugin}

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        options = self.options
        samples = options["rows"] * options["columns"] * options["samples_per_pixel"]
        if options["photometric_interpretation"] == "YBR_FULL_422" and not self.decoder.is_encapsulated:
            samples = samples // 3 * 2  # two pixels share their colour
        return int(samples * options["bits_allocated"] // 8)

    def read_encoded(self, index: int) -> bytes:
        """Return one frame as it is stored in the file. index: from 0. One thread at a time may call it."""
        return b"".join(self._read(position, length) for position, length in self._fragments[index])

    def _read(self, position: int, length: int) -> bytes:
        self.file.seek(position)
        return self.file.read(length)

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Return the frame. Raises FrameError (400, 422). Several threads may call it at once."""
        try:
            pixels = self._decode_pixels(encoded)
            grey = to_grey(pixels, self.options["photometric_interpretation"], self.header)
        except FrameError:
            raise
        except Exception as error:  # each decoder has exceptions of its own
            raise FrameError(ErrorCode.MALFORMED, f"Frame {index} is damaged: it cannot be decoded.") from error
        return Frame(grey, self.scan_area, self.spacing_mm, index, self.notes, self.frame_rate_hz)

    def _decode_pixels(self, encoded: bytes) -> np.ndarray:
        """Return (rows, columns) or (rows, columns, 3), as stored; colour as RGB."""
        if not self.decoder.is_encapsulated:
            return self.decoder.as_array(encoded, index=0, **self.one_frame_options)[0]
        check_codestream_size(encoded, self.options)
        return run_in_decoder_process(decompress_frame, encoded, self.one_frame_options)
