"""The one layout every source is turned into, so that no later stage knows where frames came from.

    data/frames/
      manifest.csv                  one row a frame, sorted by subject and number: the fields of `Row`
      frames/<subject>_<n>.<ext>    the source's own frame file, its bytes unchanged
      masks/<subject>_<n>.png       labels, 8-bit grey: 0 background, 1 nerve, 2 vessel; none for an unlabelled frame
      left_out.csv                  file, reason: everything of the source that is not among the frames
"""

import csv
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from service.errors import FrameError
from service.frame import decode

BACKGROUND, NERVE, VESSEL = 0, 1, 2
AHEAD = 16  # pairs in memory at once


class SourceError(Exception):
    """A fault of the data: the file, what is wrong with it, and what to do about it."""

    def __init__(self, file: str, reason: str, remedy: str):
        super().__init__(f"{file}: {reason}. {remedy}")
        self.file, self.reason, self.remedy = file, reason, remedy


@dataclass(frozen=True)
class Pair:
    """A frame and its labels, as a source yields them.

    frame: the bytes of the source's own file; suffix: its ending, with the dot (".png").
    labels: uint8 (height, width), rows down axis 0, values 0 background, 1 nerve, 2 vessel, of the frame's own
        height and width; None for a frame that nobody labelled.
    subject: never empty; frames of one subject never stand on both sides of a split.
    number: the frame's order within its subject. spacing_mm: millimetres a pixel, None where not known.
    vessels: whether vessels are labelled where there are some. file: the frame's name in its source, for messages.
    """

    frame: bytes
    suffix: str
    labels: np.ndarray | None
    subject: str
    number: int
    spacing_mm: float | None = None
    vessels: bool = False
    file: str = ""
