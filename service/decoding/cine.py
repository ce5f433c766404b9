"""Open an upload as a cine: a sequence of frames. A picture file is a cine with one frame."""

from typing import IO, Protocol

import numpy as np

from service.decoding.decoder_process import run_in_decoder_process
from service.decoding.frame import Frame
from service.decoding.image_file import MAX_IMAGE_BYTES, decode_image
from service.errors import ErrorCode, FrameError

DICOM_PREAMBLE_BYTES = 128  # before the signature (PS3.10 7.1)
DICOM_SIGNATURE = b"DICM"
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


class ImageCine:
    """The one frame of a PNG, JPEG or TIFF file."""

    frame_count = 1

    def __init__(self, data: bytes):
        self.data = data

    def read_encoded(self, index: int) -> bytes:
        return self.data

    def decode(self, encoded: bytes, index: int) -> Frame:
        return Frame(run_in_decoder_process(decode_image_pixels, encoded))


def decode_image_pixels(data: bytes) -> np.ndarray:
    """Return the pixels of a PNG, JPEG or TIFF file as `Frame.pixels` holds them. Runs in the decoder process.

    Raises FrameError.
    """
    return decode_image(data).pixels


def open_cine(file: IO[bytes]) -> Cine:
    """Return the frames in `file`, which stays open: a cine is read frame by frame. Raises FrameError.

    The type follows from the file's first bytes, never from its name or Content-Type. Another kind of cine needs a
    class that follows `Cine`, and a branch here; another picture format only needs an entry in `image_file`.
    """
    file.seek(0)
    head = file.read(DICOM_PREAMBLE_BYTES + len(DICOM_SIGNATURE))
    file.seek(0)
    if head.endswith(DICOM_SIGNATURE):
        from service.decoding.dicom.dicom_cine import DicomCine  # loads for 0.25 s, which training never needs

        return DicomCine(file)
    data = file.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise FrameError(ErrorCode.TOO_LARGE, f"The picture is larger than {MAX_IMAGE_BYTES // 2**20} MiB.")
    return ImageCine(data)


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
