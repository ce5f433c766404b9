"""Open an upload as a cine: a sequence of frames. A picture file is a cine with one frame."""

import tempfile
from typing import IO, Protocol

import numpy as np

from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.dicom_signature import HEAD_BYTES, find_start
from service.decoding.frame import MAX_PIXELS, Frame
from service.decoding.image_file import MAX_IMAGE_BYTES, check_format, decode_picture
from service.decoding.picture_formats import VIDEOS, Format, detect_format
from service.decoding.tiff_file import page_numbers
from service.decoding.video_file import MAX_VIDEO_BYTES, MILLI, decode_video
from service.errors import ErrorCode, FrameError

MAX_INDEX_DIGITS = 9  # more digits exceed every frame count, and make `int` slow


class Cine(Protocol):
    """The frames of one upload, numbered from 0. Every method raises FrameError when a frame cannot be used."""

    frame_count: int

    def read_encoded(self, index: int) -> bytes:
        """Return one frame as it is stored in the file. Call it from one thread at a time."""
        ...

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Return the frame. encoded: the result of `read_encoded`. Several threads may call it at once."""
        ...


class PictureCine:
    """The pictures of a picture file: the pages of a TIFF file, and one for every other format."""

    def __init__(self, data: bytes):
        self.data = data
        self.pages = [0]
        if check_format(data) is Format.TIFF:
            self.pages = run_in_decoder_process(page_numbers, data).pixels.tolist()
        self.frame_count = len(self.pages)

    def read_encoded(self, index: int) -> bytes:
        return self.data

    def decode(self, encoded: bytes, index: int) -> Frame:
        pixels, notes = run_in_decoder_process(decode_picture, encoded, self.pages[index])
        return Frame(pixels, index=index, notes=notes)


class VideoCine:
    """The frames of a video, decoded once to a temporary file."""

    def __init__(self, data: bytes):
        self.file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - it is deleted with this object
        with tempfile.NamedTemporaryFile() as source:
            source.write(data)
            source.flush()
            decoded = run_in_decoder_process(decode_video, source.name, self.file.name, MAX_PIXELS)
        self.frame_count, self.rows, self.columns, rate = decoded.pixels.tolist()
        self.notes = decoded.notes
        self.frame_rate_hz = rate / MILLI if rate > 0 else None

    def read_encoded(self, index: int) -> bytes:
        self.file.seek(index * self.rows * self.columns)
        return self.file.read(self.rows * self.columns)

    def decode(self, encoded: bytes, index: int) -> Frame:
        pixels = np.frombuffer(encoded, np.uint8).reshape(self.rows, self.columns)
        return Frame(pixels, index=index, notes=self.notes, frame_rate_hz=self.frame_rate_hz)


def open_cine(file: IO[bytes]) -> Cine:
    """Return the frames in `file`, which stays open: a cine is read frame by frame. Raises FrameError.

    The type follows from the file's first bytes, never from its name or Content-Type. Another kind of cine needs a
    class that follows `Cine`, and a branch here; another picture format only needs an entry in `image_file`.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if find_start(head) is not None:
        from service.decoding.dicom.dicom_cine import DicomCine  # loads for 0.25 s, which training never needs

        return DicomCine(file)
    is_video = detect_format(head) in VIDEOS
    max_bytes = MAX_VIDEO_BYTES if is_video else MAX_IMAGE_BYTES
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        kind = "video" if is_video else "picture"
        raise FrameError(ErrorCode.TOO_LARGE, f"The {kind} is larger than {max_bytes // 2**20} MiB.")
    return VideoCine(data) if is_video else PictureCine(data)


def select_frame(cine: Cine, index: str | None) -> int:
    """Return the number of the requested frame. Raises FrameError (400, 422).

    index: the query parameter, or None. Without it, the upload must have a single frame.
    """
    last = cine.frame_count - 1
    if index is None:
        if cine.frame_count > 1:
            choice = f"Choose one with ?index=0 to ?index={last}, or send the upload to /segment for all frames."
            raise FrameError(ErrorCode.SEVERAL_FRAMES, f"The upload has {cine.frame_count} frames. {choice}")
        return 0
    if not (index.isascii() and index.isdigit()):
        raise FrameError(ErrorCode.INDEX, f"index must be the number of a frame, from 0; it is {index[:20]!r}.")
    if len(index) > MAX_INDEX_DIGITS or int(index) > last:
        raise FrameError(
            ErrorCode.NO_SUCH_FRAME, f"Frame {index[:20]} does not exist. The upload has frames 0 to {last}."
        )
    return int(index)
