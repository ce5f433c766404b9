"""Open an upload as a cine: a sequence of frames. A picture file is a cine with one frame."""

import io
from typing import IO, Protocol

from service.decoding.declared_size import read_declared_size
from service.decoding.decoded_video import DecodedVideo
from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.dicom_signature import HEAD_BYTES, find_start
from service.decoding.file_formats import VIDEOS, Format, detect_format
from service.decoding.frame import Frame
from service.decoding.image_file import (
    MAX_IMAGE_BYTES,
    check_format,
    decode_picture,
    decode_tiff_page,
    list_pages,
)
from service.decoding.temporary_file import write_temporary_file
from service.decoding.video_decoder import MAX_VIDEO_BYTES
from service.errors import ErrorCode, FrameError
from service.resources.worker_memory import UNLIMITED_MEMORY, RequestMemory

MAX_INDEX_DIGITS = 9  # more digits exceed every frame count, and make `int` slow


class Cine(Protocol):
    """The frames of one upload, numbered from 0. Every method raises FrameError when a frame cannot be used."""

    frame_count: int

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        """Return the memory in bytes that it takes to read, decode and segment a frame, and to render a response."""
        ...

    def read_encoded(self, index: int) -> bytes:
        """Return one frame as it is stored in the file. Call it from one thread at a time."""
        ...

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Return the frame. encoded: the result of `read_encoded`. Several threads may call it at once."""
        ...


class PictureCine:
    """A picture file with one picture.

    page: one of `list_pages`. notes: sentences about the file, for the reader of the answer.
    """

    frame_count = 1

    def __init__(self, data: bytes, page: int = 0, notes: tuple[str, ...] = ()):
        self.data, self.page, self.notes = data, page, notes
        self.size = read_declared_size(io.BytesIO(data), check_format(data), page)

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return self.size.frame_bytes(len(self.data), rendered_bytes_per_pixel)

    def read_encoded(self, index: int) -> bytes:
        return self.data

    def decode(self, encoded: bytes, index: int) -> Frame:
        pixels, notes = run_in_decoder_process(decode_picture, encoded, self.page, size=self.size)
        return Frame(pixels, index=index, notes=self.notes + notes)


class TiffCine:
    """The pages of a TIFF file.

    The file is on the disk, and a decoder process reads the bytes of one page. Sent to the process, a file of N pages
    would be sent N times.
    """

    def __init__(self, data: bytes, pages: list[int], notes: tuple[str, ...]):
        """Raises FrameError 503 if the disk is full."""
        self.file = write_temporary_file([data])  # it is deleted with this object
        self.pages, self.notes = pages, notes
        self.sizes = [read_declared_size(self.file, Format.TIFF, page) for page in pages]
        self.file_bytes = len(data)
        self.frame_count = len(pages)

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return self.sizes[index].frame_bytes(self.file_bytes, rendered_bytes_per_pixel)

    def read_encoded(self, index: int) -> bytes:
        return b""

    def decode(self, encoded: bytes, index: int) -> Frame:
        page, size = self.pages[index], self.sizes[index]
        pixels, notes = run_in_decoder_process(decode_tiff_page, self.file.name, page, size=size)
        return Frame(pixels, index=index, notes=self.notes + notes)


class VideoCine:
    """The frames of a video."""

    def __init__(self, data: bytes, memory: RequestMemory):
        """Raises FrameError (400, 413, 422, 429, 503)."""
        self.video = DecodedVideo([data], memory)
        self.frame_count = self.video.frame_count

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return self.video.size.frame_bytes(self.video.size.stored_bytes, rendered_bytes_per_pixel)

    def read_encoded(self, index: int) -> bytes:
        return self.video.read_frame(index)

    def decode(self, encoded: bytes, index: int) -> Frame:
        video = self.video
        return Frame(video.to_pixels(encoded), index=index, notes=video.notes, frame_rate_hz=video.frame_rate_hz)


def open_cine(file: IO[bytes], memory: RequestMemory = UNLIMITED_MEMORY) -> Cine:
    """Return the frames in `file`, which stays open: a cine is read frame by frame. Raises FrameError.

    memory: where the bytes of files that are made of this one are reserved.

    The type follows from the file's first bytes, never from its name or Content-Type. Another kind of cine needs a
    class that follows `Cine`, and a branch here; another picture format only needs an entry in `image_file`.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if find_start(head) is not None:
        from service.decoding.dicom.dicom_cine import DicomCine  # loads for 0.25 s, which training never needs

        return DicomCine(file, memory)
    is_video = detect_format(head) in VIDEOS
    max_bytes = MAX_VIDEO_BYTES if is_video else MAX_IMAGE_BYTES
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        kind = "video" if is_video else "picture"
        raise FrameError(ErrorCode.TOO_LARGE, f"The {kind} is larger than {max_bytes // 2**20} MiB.")
    memory.reserve_file(len(data))
    return VideoCine(data, memory) if is_video else _open_picture(data)


def _open_picture(data: bytes) -> Cine:
    if check_format(data) is not Format.TIFF:
        return PictureCine(data)
    pages, notes = run_in_decoder_process(list_pages, data)
    return TiffCine(data, pages.tolist(), notes) if len(pages) > 1 else PictureCine(data, int(pages[0]), notes)


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
