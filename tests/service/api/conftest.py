"""A cine, its masks, and a damaged cine, for the tests of the routes and of the WebSocket."""

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from service.decoding.frame import Frame
from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes

FRAME_COUNT = 12
DAMAGED_FRAME = 5


@pytest.fixture(scope="session")
def cine_pixels(speckle) -> np.ndarray:
    """uint8 (FRAME_COUNT, 120, 160), every frame different."""
    return np.stack([speckle(seed, 120, 160) for seed in range(FRAME_COUNT)])


@pytest.fixture(scope="session")
def cine_masks(cine_pixels, segmenter) -> list[np.ndarray]:
    """The masks that the service must return, every one different."""
    masks = [segmenter.segment(Frame(pixels)).mask for pixels in cine_pixels]
    assert len({mask.tobytes() for mask in masks}) == FRAME_COUNT
    return masks


@pytest.fixture(scope="session")
def cine_file(cine_pixels) -> bytes:
    """The cine as uncompressed DICOM."""
    return to_bytes(make_ultrasound(cine_pixels))


@pytest.fixture(scope="session")
def damaged_cine_file(cine_pixels) -> bytes:
    """The cine as compressed DICOM; zeros replace most bytes of DAMAGED_FRAME."""
    dataset = make_compressed_ultrasound(cine_pixels, uid.JPEGLSLossless)
    codestreams = list(generate_frames(dataset.PixelData, number_of_frames=FRAME_COUNT))
    codestreams[DAMAGED_FRAME] = codestreams[DAMAGED_FRAME][:40].ljust(len(codestreams[DAMAGED_FRAME]), b"\0")
    dataset.PixelData = encapsulate(codestreams)
    return to_bytes(dataset)
