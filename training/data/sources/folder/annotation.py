"""A frame of the folder and its annotation, whatever kinds of files they come from."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from service.decoding.frame import Frame


class FrameId(NamedTuple):
    """A frame of the folder.

    file: its path in the folder.
    cine_index: its number in a video or a DICOM cine, from 0. None: the file has no other frame.
    """

    file: str
    cine_index: int | None = None

    def __str__(self) -> str:
        return self.file if self.cine_index is None else f"{self.file}[{self.cine_index}]"


class SourceFrame(NamedTuple):
    """A decoded frame. picture: the bytes of its picture file; empty for a frame of a video or a DICOM file."""

    decoded: Frame
    picture: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.decoded.height, self.decoded.width


class Annotation(NamedTuple):
    """What a file says about one frame.

    frame: the frame.
    name: of the annotation, for messages.
    class_names: the class of each shape or segment. None: a picture, whose classes are grey values or colours.
    draw: returns the labels of the frame: uint8 (height, width), 0 background, 1 nerve, 2 vessel. Raises SourceError,
        and ParameterError for an unknown class.
    """

    frame: FrameId
    name: str
    class_names: list[str] | None
    draw: Callable[[SourceFrame], np.ndarray]
