"""An upload's file to its frames: a picture is a cine of one."""

from typing import BinaryIO, Protocol

import numpy as np

from service import frame
from service.errors import FrameError
from service.frame import Frame
from service.isolation import isolated

LIMIT_PICTURE_BYTES = 32 * 1024 * 1024
HEAD_BYTES = 132  # a DICOM file is known by its last four


class Cine(Protocol):
    """Frames of one upload, numbered from 0. Every method raises FrameError where a frame cannot be used."""

    count: int

    def encoded_at(self, index: int) -> bytes:
        """One frame, as it stands in the file."""
        ...

    def decode(self, encoded: bytes, index: int) -> Frame:
        """Of what `encoded_at` gave. May be called from several threads."""
        ...


class Picture:
    """The one frame of a PNG, JPEG or TIFF file."""

    count = 1

    def __init__(self, data: bytes):
        self.data = data

    def encoded_at(self, index: int) -> bytes:
        return self.data

    def decode(self, encoded: bytes, index: int) -> Frame:
        return Frame(isolated(decoded, encoded))


def decoded(data: bytes) -> np.ndarray:
    """The pixels of a PNG, JPEG or TIFF file, as a Frame holds them. Raises FrameError."""
    return frame.decode(data).pixels


def open_cine(file: BinaryIO) -> Cine:
    """The frames in `file`, which is read as they are asked for and left open. Raises FrameError."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if head[-4:] == b"DICM":
        from service.dicom.cine import DicomCine  # a quarter of a second, for those who need it

        return DicomCine(file)
    data = file.read(LIMIT_PICTURE_BYTES + 1)
    if len(data) > LIMIT_PICTURE_BYTES:
        raise FrameError("too_large", f"The picture is larger than {LIMIT_PICTURE_BYTES // 2**20} MiB.", 413)
    return Picture(data)


def chosen(cine: Cine, index: str | None) -> int:
    """Which frame `index`, as it came with the request, means; without it, the only one. Raises FrameError."""
    if index is None:
        if cine.count > 1:
            told = f"The upload holds {cine.count} frames: choose one with ?index=0 to ?index={cine.count - 1}"
            raise FrameError("several_frames", f"{told}, or ask /segment for all.", 422)
        return 0
    if not (index.isascii() and index.isdigit()):
        raise FrameError("index", f"index is a frame's number, counted from 0, not {index[:20]!r}.", 400)
    if len(index) > 9 or int(index) >= cine.count:
        raise FrameError(
            "no_such_frame", f"There is no frame {index[:20]}: the upload holds 0 to {cine.count - 1}.", 422
        )
    return int(index)
