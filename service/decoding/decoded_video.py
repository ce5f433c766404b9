"""A video whose frames the decoder process wrote to a temporary file."""

import math
from collections.abc import Iterable

import numpy as np

from service.decoding.declared_size import UNCOMPRESSED_COPIES, VIDEO_COPIES, DeclaredSize
from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.frame import MAX_PIXELS
from service.decoding.pixel_range import DecodedPixels
from service.decoding.temporary_file import write_temporary_file
from service.decoding.video_decoder import MAX_DECODED_BYTES, MILLI, decode_video, probe_video
from service.resources.worker_memory import UNLIMITED_MEMORY, RequestMemory

DECLARED_FACTOR, DECLARED_SPARE = 2, 16  # frames beyond the declared number that are still read


class DecodedVideo:
    """The grey frames of a video, decoded once.

    frame_count, rows, columns: of the video. frame_rate_hz: frames per second; None: unknown.
    notes: sentences for the reader of the answer.
    """

    def __init__(self, parts: Iterable[bytes], memory: RequestMemory = UNLIMITED_MEMORY):
        """Raises FrameError (400, 413, 422, 429, 503).

        parts: the bytes of the video. memory: where the bytes of its frames are reserved.
        """
        self.file = write_temporary_file()  # it is deleted with this object
        with write_temporary_file(parts) as source:
            decoded = self._decode(source.name, memory)
        self.frame_count, self.rows, self.columns, milli_rate = decoded.pixels.tolist()
        self.frame_rate_hz = milli_rate / MILLI if milli_rate else None
        self.notes = decoded.notes
        self.size = DeclaredSize(self.rows, self.columns, 1, UNCOMPRESSED_COPIES)

    def _decode(self, source: str, memory: RequestMemory) -> DecodedPixels:
        """Reserve the bytes of the declared frames, and decode them."""
        rows, columns, frame_count = run_in_decoder_process(probe_video, source, MAX_PIXELS).pixels.tolist()
        pixels = rows * columns
        # Many containers only estimate the number.
        most = pixels * (DECLARED_FACTOR * frame_count + DECLARED_SPARE) if frame_count else MAX_DECODED_BYTES
        memory.reserve_only_frame(DeclaredSize(rows, columns, 1, VIDEO_COPIES).decoder_bytes)
        reserved = memory.reserve_file(pixels * frame_count, min(most, MAX_DECODED_BYTES))
        decoded = run_in_decoder_process(decode_video, source, self.file.name, pixels, reserved)
        memory.shrink_only_frame(0)
        memory.release_file(reserved - math.prod(decoded.pixels[:3].tolist()))
        return decoded

    def read_frame(self, index: int) -> bytes:
        """Return one frame, one byte a pixel. index: from 0. One thread at a time may call it."""
        self.file.seek(index * self.rows * self.columns)
        return self.file.read(self.rows * self.columns)

    def to_pixels(self, data: bytes) -> np.ndarray:
        """Return uint8 (rows, columns). data: the result of `read_frame`."""
        return np.frombuffer(data, np.uint8).reshape(self.rows, self.columns)
