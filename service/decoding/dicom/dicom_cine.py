"""The frames of one DICOM file, each with its scan area and spacing.

The header is compared with the file before a pixel is decoded, and a compressed frame's own header with the file's.
Files may be large, so frames are read from disk one at a time.
"""

from typing import IO, Any

import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder

from service.decoding.declared_size import DICOM_COPIES, UNCOMPRESSED_COPIES, DeclaredSize
from service.decoding.decoded_video import DecodedVideo
from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.dicom.codestream_header import check_codestream_size
from service.decoding.dicom.decompression import decompress_frame
from service.decoding.dicom.dicom_header import malformed_error, read_header, unsupported_syntax_error
from service.decoding.dicom.dicom_video import decode_dicom_video
from service.decoding.dicom.frame_locations import (
    PixelElement,
    available_bytes,
    has_strange_end,
    locate_compressed_frames,
    locate_uncompressed_frames,
    read_pixel_element,
)
from service.decoding.dicom.frame_rate import read_frame_rate
from service.decoding.dicom.grayscale_conversion import to_grey_frame
from service.decoding.dicom.header_checks import (
    check_frame_count,
    is_frame_count_missing,
    missing_frame_count_note,
    read_pixel_options,
    ultrasound_notes,
)
from service.decoding.dicom.pixel_order import find_order, has_exchanged_pixels
from service.decoding.dicom.ultrasound_regions import find_scan_area
from service.decoding.dicom.uncompressed_layout import find_layout
from service.decoding.frame import Frame
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError
from service.resources.worker_memory import UNLIMITED_MEMORY, RequestMemory

CODESTREAM_HEADER_BYTES = 65536  # allowed for a compressed frame beside twice its pixels


class DicomCine:
    """The frames of one DICOM file, numbered from 0.

    header: every element before the pixels, without values over `dicom_header.MAX_VALUE_BYTES`.
    frame_count: number of frames.
    notes: sentences about the whole file, for the reader of the answer.
    video: the frames of a file that holds a video; None for all others.
    """

    video: DecodedVideo | None = None
    _has_exchanged_pixels = False

    def __init__(self, file: IO[bytes], memory: RequestMemory = UNLIMITED_MEMORY):
        """Raises FrameError (400, 413, 422, 429).

        file: open for reading; it stays open. memory: where the bytes of an inflated file are reserved.
        """
        try:
            self._open(file, memory)
        except FrameError:
            raise
        except Exception as error:  # a hostile header makes pydicom raise exceptions of many classes
            raise malformed_error() from error

    def _open(self, file: IO[bytes], memory: RequestMemory) -> None:
        self.header, self.file = read_header(file, memory)
        self.notes = ultrasound_notes(self.header)
        syntax = self.header.file_meta.TransferSyntaxUID
        element = read_pixel_element(self.file, syntax)
        self.options, notes = read_pixel_options(self.header)
        self.notes += notes
        self.options |= {"pixel_vr": element.vr, "correct_unused_bits": False}
        if syntax in uid.MPEGTransferSyntaxes:
            self._open_video(memory)
        else:
            self._open_frames(element, memory)
        if self.frame_count != self.options["number_of_frames"]:
            self.notes += (missing_frame_count_note(self.frame_count),)
            self.header.NumberOfFrames = self.frame_count
        self.options["number_of_frames"] = 1  # the decoders get one frame
        self.scan_area, self.spacing_mm, notes = find_scan_area(self.header)
        self.notes += notes
        self.frame_rate_hz = read_frame_rate(self.header) if self.frame_count > 1 else None

    def _open_video(self, memory: RequestMemory) -> None:
        self.video = decode_dicom_video(self.file, self.header, self.options, memory)
        self.frame_count = self.video.frame_count
        self.notes += self.video.notes

    def _open_frames(self, element: PixelElement, memory: RequestMemory) -> None:
        syntax = self.options["transfer_syntax_uid"]
        try:
            get_decoder(syntax)
        except NotImplementedError:  # newer than pydicom
            raise unsupported_syntax_error(syntax) from None
        self._fragments = self._locate_frames(element)
        self.frame_count = len(self._fragments)
        if element.length is not None:
            memory.reserve_only_frame(self.frame_bytes(0))
            self.options, notes = find_order(self.read_encoded(0), self.options)
            memory.shrink_only_frame(0)
            self.notes += notes
            self._has_exchanged_pixels = has_exchanged_pixels(self.options)
            self.options["pixel_vr"] = "OB"  # pydicom cannot exchange them in one frame of an odd number of pixels

    def _locate_frames(self, element: PixelElement) -> list[list[tuple[int, int]]]:
        """Return the fragments of each frame. Correct `options` and add notes where the bytes disprove the header."""
        options = self.options
        if element.length is not None:
            layout = find_layout(self.header, options, available_bytes(self.file, element.length))
            self.notes += layout.notes
            if has_strange_end(self.file, element.length):
                self.notes += ("the file goes on after the pixels, but not as DICOM: it may be damaged",)
            options["photometric_interpretation"] = layout.interpretation
            return locate_uncompressed_frames(self.file.tell(), layout.frame_count, layout.frame_bytes)
        pixels = options["rows"] * options["columns"] * options["samples_per_pixel"]
        max_frame_bytes = 2 * (pixels * options["bits_allocated"] // 8) + CODESTREAM_HEADER_BYTES
        frame_count = None if is_frame_count_missing(self.header) else options["number_of_frames"]
        fragments = locate_compressed_frames(self.file, frame_count, max_frame_bytes)
        check_frame_count(len(fragments))
        return fragments

    @property
    def size(self) -> DeclaredSize:
        """Return the declared size of every frame."""
        options = self.options
        pixel_bytes = options["samples_per_pixel"] * options["bits_allocated"] // 8
        copies = DICOM_COPIES if options["transfer_syntax_uid"].is_encapsulated else UNCOMPRESSED_COPIES
        return DeclaredSize(options["rows"], options["columns"], pixel_bytes, copies)

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        """Return the memory in bytes that it takes to read, decode and segment a frame, and to render a response."""
        if self.video:
            return self.video.size.frame_bytes(self.video.size.stored_bytes, rendered_bytes_per_pixel)
        encoded_bytes = sum(length for _, length in self._fragments[index])
        return self.size.frame_bytes(encoded_bytes, rendered_bytes_per_pixel)

    def read_encoded(self, index: int) -> bytes:
        """Return one frame as it is stored in the file. index: from 0. One thread at a time may call it."""
        if self.video:
            return self.video.read_frame(index)
        if self._has_exchanged_pixels:
            return self._read_exchanged(*self._fragments[index][0])
        return b"".join(self._read(position, length) for position, length in self._fragments[index])

    def _read_exchanged(self, position: int, length: int) -> bytes:
        """Return 8-bit pixels that lie in words of 16 bits, the second pixel first."""
        before = (position - self._fragments[0][0][0]) % 2
        words = self._read(position - before, length + before + (length + before) % 2)
        return np.frombuffer(words, np.uint16).byteswap().tobytes()[before : before + length]

    def _read(self, position: int, length: int) -> bytes:
        self.file.seek(position)
        return self.file.read(length)

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Return the frame. Raises FrameError (400, 422). Several threads may call it at once."""
        try:
            grey = DecodedPixels(self.video.to_pixels(encoded)) if self.video else self._decode_grey(encoded)
        except FrameError:
            raise
        except Exception as error:  # each decoder has exceptions of its own
            raise FrameError(ErrorCode.MALFORMED, f"Frame {index} is damaged: it cannot be decoded.") from error
        notes = self.notes + grey.notes
        return Frame(grey.pixels, self.scan_area, self.spacing_mm, index, notes, self.frame_rate_hz)

    def _decode_grey(self, encoded: bytes) -> DecodedPixels:
        stored, notes = self._decode_pixels(encoded)
        grey = to_grey_frame(stored, self.options["photometric_interpretation"], self.header)
        return DecodedPixels(grey.pixels, notes + grey.notes)

    def _decode_pixels(self, encoded: bytes) -> DecodedPixels:
        """Return (rows, columns) or (rows, columns, 3), as stored; colour as RGB."""
        options: dict[str, Any] = self.options
        syntax = options["transfer_syntax_uid"]
        if not syntax.is_encapsulated:
            pixels = get_decoder(syntax).as_array(encoded, index=0, **options)[0]
            return DecodedPixels(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
        check_codestream_size(encoded, options)
        return run_in_decoder_process(decompress_frame, encoded, options, size=self.size)
