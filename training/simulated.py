"""Phantom frames as a net sees them, for a training to begin with."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from service.card import Input, Normalisation
from service.frame import Frame
from service.tensor import to_tensor
from training.parameters import InputSize
from training.prepare import stretch_labels
from training.sources import phantom

SEED = 7  # no other phantom's: those that nets are tested on stay unseen
SUBJECTS, FRAMES = 60, 4


def simulated(size: InputSize, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames float32 (N, height, width), each normalised by itself, and masks uint8 (N, height, width, classes), 0 or
    1: nerve, then vessel."""
    network = Input(size.height, size.width, Normalisation("frame"))

    def seen(numbers: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = phantom.frame(SEED, *numbers)
        frame = Frame(pixels)
        return to_tensor(frame, network)[..., 0], stretch_labels(frame.lit.of(labels), size, classes)

    with ThreadPoolExecutor() as threads:
        frames, masks = zip(*threads.map(seen, product(range(1, SUBJECTS + 1), range(1, FRAMES + 1))), strict=True)
    return np.stack(frames), np.stack(masks)
