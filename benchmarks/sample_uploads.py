"""The uploads of the measurements: test frames of the champion's data, in three file types."""

from dataclasses import dataclass

import cv2
import numpy as np

from tests.dicoms import make_ultrasound, to_bytes
from training.data.manifest import read_frame
from training.data.split_table import rows_of_split

FRAME_COUNT = 8  # different frames of each file type


@dataclass(frozen=True)
class SampleUploads:
    """Files of one type and size: name for the report, content type, and the bytes of FRAME_COUNT files."""

    name: str
    content_type: str
    files: list[bytes]


def sample_frames(height: int, width: int, count: int = FRAME_COUNT) -> list[np.ndarray]:
    """Return test frames at even steps through the test split, resized: uint8 (height, width)."""
    rows = rows_of_split("test")
    selected = [rows[index] for index in np.linspace(0, len(rows) - 1, count).astype(int)]
    pixels = (read_frame(row).pixels.astype(np.uint8) for row in selected)
    return [cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA) for grey in pixels]


def encode_image(suffix: str, grey: np.ndarray) -> bytes:
    """Return a uint8 (height, width) frame as an image file. suffix: ".png", ".jpg" or ".tif"."""
    return bytes(cv2.imencode(suffix, grey)[1].tobytes())


def make_sample_uploads() -> list[SampleUploads]:
    """Return PNG of the Kaggle frames' size, JPEG of the larger USGRA size, and uncompressed DICOM."""
    small, large = sample_frames(420, 580), sample_frames(632, 761)
    return [
        SampleUploads("PNG 580x420", "image/png", [encode_image(".png", grey) for grey in small]),
        SampleUploads("JPEG 761x632", "image/jpeg", [encode_image(".jpg", grey) for grey in large]),
        SampleUploads("DICOM 580x420", "application/dicom", [to_bytes(make_ultrasound(grey)) for grey in small]),
    ]
