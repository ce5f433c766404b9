"""Open the files that hold frames: pictures, videos and DICOM ultrasound."""

import math

import numpy as np

from service.decoding.cine import Cine, open_cine
from service.decoding.frame import Frame
from service.errors import FrameError
from training.data.frame_mask_pair import decode_frame
from training.data.source_errors import SourceError
from training.data.sources.folder.annotation import Annotation, SourceFrame
from training.data.sources.folder_or_zip import SourceFiles


class FrameFile:
    """A file that holds frames, decoded with the service's decoders.

    frame_count: number of frames.
    """

    def __init__(self, files: SourceFiles, file: str, is_picture: bool):
        """is_picture: whether the file is a picture, not a video or DICOM. Raises SourceError if it cannot be read."""
        self.picture = files.read(file) if is_picture else b""
        self.cine = None if is_picture else open_cine_file(files, file)
        self.frame_count = self.cine.frame_count if self.cine else 1

    def read(self, annotation: Annotation) -> SourceFrame:
        """Return the frame of an annotation of this file.

        Raises SourceError if the file does not have the frame, or it cannot be decoded.
        """
        frame = annotation.frame
        if self.cine is None:
            return SourceFrame(decode_frame(self.picture, frame.file), self.picture)
        index = frame.cine_index or 0
        if index >= self.frame_count:
            reason = f"is a mask of no frame: {frame.file} has frames 0 to {self.frame_count - 1}"
            raise SourceError(annotation.name, reason, "Name it after its frame, from 0.")
        try:
            return SourceFrame(self.cine.decode(self.cine.read_encoded(index), index))
        except FrameError as error:
            reason = f"is not a readable frame ({error.message.rstrip('.')})"
            raise SourceError(str(frame), reason, "Replace it, or remove its annotation.") from error


def open_cine_file(files: SourceFiles, file: str) -> Cine:
    """Open a video or a DICOM file. Raises SourceError if it is not readable ultrasound."""
    try:
        return open_cine(files.open(file))
    except FrameError as error:
        reason = f"is not a readable video or DICOM ultrasound ({error.message.rstrip('.')})"
        raise SourceError(file, reason, "Convert it to a readable type, or remove it.") from error


def crop_to_scan_area(labels: np.ndarray, frame: Frame, file: str) -> np.ndarray:
    """Return the labels of a frame's scan area, the part of the frame that the service segments.

    labels: (height, width). file: of the labels. Raises SourceError if there are labels outside the scan area.
    """
    if frame.scan_area is None:
        return labels
    inside = frame.scan_area.crop(labels)
    if np.count_nonzero(inside) < np.count_nonzero(labels):
        box = frame.scan_area
        columns, rows = f"{box.x} to {box.x + box.width - 1}", f"{box.y} to {box.y + box.height - 1}"
        reason = f"marks pixels outside the ultrasound region of its image (columns {columns}, rows {rows})"
        raise SourceError(file, reason, "Correct the mask, or remove the pair.")
    return inside


def square_spacing_mm(frame: Frame) -> float | None:
    """Return the distance from pixel to pixel in millimetres; None if it is unknown, or rows and columns differ."""
    if frame.spacing_mm is None or not math.isclose(*frame.spacing_mm, rel_tol=1e-3):
        return None
    return round(frame.spacing_mm[0], 6)
