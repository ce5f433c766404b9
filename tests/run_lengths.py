"""Decode run-lengths, independently of the service."""

import numpy as np


def decode_run_lengths(run_lengths: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask, uint8 of `shape`, 0 or 255. run_lengths: Kaggle's, pixels counted from 1 down the columns."""
    pixels = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = list(map(int, run_lengths.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert length > 0
        pixels[start - 1 : start - 1 + length] = 255
    return pixels.reshape(shape, order="F")
