"""The files that are sent: test frames of the champion's own data, in the three shapes that the report names."""

from dataclasses import dataclass

import cv2
import numpy as np

from tests.dicoms import ultrasound, written
from training.sources.layout import FRAMES, read_frame
from training.split import rows_of

DISTINCT = 8  # frames of each shape


@dataclass(frozen=True)
class Upload:
    """One shape of upload: what it is called, its content type, and the bytes of DISTINCT files."""

    name: str
    kind: str
    files: list[bytes]


def frames(height: int, width: int, count: int = DISTINCT) -> list[np.ndarray]:
    """Test frames, evenly apart, stretched to this size: uint8 (height, width)."""
    rows = rows_of("test")
    chosen = [rows[index] for index in np.linspace(0, len(rows) - 1, count).astype(int)]
    pixels = (read_frame(FRAMES, row).pixels.astype(np.uint8) for row in chosen)
    return [cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA) for grey in pixels]


def encoded(kind: str, grey: np.ndarray) -> bytes:
    """uint8 (height, width) as a file of a kind that OpenCV names: ".png", ".jpg", ".tif"."""
    return bytes(cv2.imencode(kind, grey)[1].tobytes())


def uploads() -> list[Upload]:
    """PNG as Kaggle's frames are large, JPEG as usgra's larger ones, DICOM as a console sends it uncompressed."""
    return [
        Upload("PNG 580x420", "image/png", [encoded(".png", grey) for grey in frames(420, 580)]),
        Upload("JPEG 761x632", "image/jpeg", [encoded(".jpg", grey) for grey in frames(632, 761)]),
        Upload("DICOM 580x420", "application/dicom", [written(ultrasound(grey)) for grey in frames(420, 580)]),
    ]
