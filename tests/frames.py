"""Synthetic frames, and their files, for data sets and uploads."""

import cv2
import numpy as np


def disc(height: int, width: int, across: float = 0.5, down: float = 0.5, seed: int = 1) -> np.ndarray:
    """Return a bright disc on dark speckle, uint8 (height, width).

    across, down: the disc's centre as shares of the width and the height, 0 to 1.
    """
    rows, columns = np.mgrid[:height, :width]
    radius = 0.25 * min(height, width)
    inside = (rows - down * height) ** 2 + (columns - across * width) ** 2 < radius**2
    speckle = np.random.default_rng(seed).rayleigh(12, (height, width))
    return np.clip(speckle + 180 * inside, 0, 255).astype(np.uint8)


def speckle(seed: int = 0, height: int = 420, width: int = 580) -> np.ndarray:
    """Return bright and dark blobs, uint8 (height, width), different for each seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 7), np.uint8)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)


def png(pixels: np.ndarray) -> bytes:
    """Return the PNG of uint8 or uint16 (height, width) or (height, width, 3), BGR."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def tiff(pixels: np.ndarray) -> bytes:
    """Return the TIFF of uint8 (height, width), with LZW compression like Kaggle's files."""
    return cv2.imencode(".tif", pixels)[1].tobytes()


def moving_tissue(number: int) -> np.ndarray:
    """A frame of a cine in which tissue moves by a pixel a frame, with noise of its own: uint8 (100, 120)."""
    noise = np.random.default_rng(number).integers(0, 12, (100, 120), dtype=np.uint8)
    return np.minimum(speckle(1, 100, 160)[:, number : number + 120], 243) + noise
