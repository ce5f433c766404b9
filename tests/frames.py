"""Frames that are made up: for data sets and for uploads."""

import cv2
import numpy as np


def disc(height: int, width: int, across: float = 0.5, down: float = 0.5, seed: int = 1) -> np.ndarray:
    """A bright disc on dark speckle: uint8 (height, width); its centre lies at shares `across` and `down`."""
    rows, columns = np.mgrid[:height, :width]
    reach = 0.25 * min(height, width)
    inside = (rows - down * height) ** 2 + (columns - across * width) ** 2 < reach**2
    speckle = np.random.default_rng(seed).rayleigh(12, (height, width))
    return np.clip(speckle + 180 * inside, 0, 255).astype(np.uint8)


def speckle(seed: int = 0, height: int = 420, width: int = 580) -> np.ndarray:
    """Bright and dark blobs, uint8 (height, width), others for each seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 7), np.uint8)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def tiff(pixels: np.ndarray) -> bytes:
    """LZW, as Kaggle's."""
    return cv2.imencode(".tif", pixels)[1].tobytes()
