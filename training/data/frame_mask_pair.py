"""A frame and its labels, as a source yields them, with the checks that all sources share."""

from dataclasses import dataclass

import numpy as np

from service.decoding.frame import Frame
from service.decoding.image_file import decode_image, read_orientation
from service.errors import FrameError
from training.data.source_errors import SourceError

NERVE, VESSEL = 1, 2  # labels; 0 is background
UNRECORDED_SUBJECTS = {"usgra", "folder"}  # subjects that stand for "not recorded", each the name of its source


@dataclass(frozen=True)
class FrameMaskPair:
    """A frame and its labels, as a source yields them.

    frame_file: the bytes of the source's file.
    suffix: the file's extension with the dot, for example ".png".
    labels: uint8 (height, width), rows down axis 0, of the frame's own size: 0 background, 1 nerve, 2 vessel. None: the
        frame is unlabelled.
    subject: a name, never empty. All frames of a subject go to the same split.
    number: the frame's position among the subject's frames. Neighbouring numbers are neighbours in time or place.
    spacing_mm: millimetres from pixel to pixel. None: unknown.
    vessels: whether vessels are labelled too.
    licence: empty if unknown.
    source_name: the frame's name in the source, for messages.
    """

    frame_file: bytes
    suffix: str
    labels: np.ndarray | None
    subject: str
    number: int
    spacing_mm: float | None = None
    vessels: bool = False
    licence: str = ""
    source_name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape if self.labels is not None else decode_image(self.frame_file).pixels.shape


def decode_frame(data: bytes, file: str) -> Frame:
    """Decode a source's frame file with the service's decoder. Raises SourceError if it is not a readable frame."""
    try:
        return decode_image(data)
    except FrameError as error:
        reason = f"is not a readable frame ({error.message.rstrip('.')})"
        raise SourceError(file, reason, "Replace it, or remove the pair.") from error


def check_orientation(frame_data: bytes, mask_data: bytes, mask_file: str) -> None:
    """Raise SourceError if the tag Orientation of a mask differs from its frame's: one of them would be turned."""
    frame, mask = read_orientation(frame_data), read_orientation(mask_data)
    if frame != mask:
        reason = f"has Orientation {mask}, but its frame has {frame}: one of them would be turned"
        raise SourceError(mask_file, reason, "Write both again without this tag, the way the mask fits the frame.")


def check_size(mask: np.ndarray, frame: np.ndarray, file: str, remedy: str) -> None:
    """Raise SourceError if the mask in `file`, (height, width), differs in size from its frame."""
    if mask.shape != frame.shape:
        mask_size, frame_size = (f"{width}x{height}" for height, width in (mask.shape, frame.shape))
        raise SourceError(file, f"has {mask_size} pixels, but its frame has {frame_size}", remedy)
