"""Changes of a frame as another console, or another setting of it, would make them.

Hendrycks and Dietterich 2019 (arXiv 1903.12261) measure classifiers on such corruptions of photographs.
"""

from collections.abc import Callable

import cv2
import numpy as np

SPECKLE_SEED = 1
Corruption = Callable[[np.ndarray], np.ndarray]  # takes and returns uint8 (height, width)


def correct_gamma(gamma: float) -> Corruption:
    """Return a gamma correction: above 1 it darkens, below 1 it brightens."""
    table = (255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return lambda frame: cv2.LUT(frame, table)


def reduce_dynamic_range(black: int) -> Corruption:
    """Return a smaller dynamic range: grey values up to `black` become black."""
    table = np.clip((np.arange(256) - black) * 255 / (255 - black), 0, 255).astype(np.uint8)
    return lambda frame: cv2.LUT(frame, table)


def change_tgc(slope: float) -> Corruption:
    """Return another time-gain compensation: the gain is exp(-slope) at the top and exp(slope) at the bottom."""

    def corrupt(frame: np.ndarray) -> np.ndarray:
        gain = np.exp(slope * np.linspace(-1, 1, len(frame)))[:, np.newaxis]
        return np.clip(frame * gain, 0, 255).astype(np.uint8)

    return corrupt


def blur(sigma_px: float) -> Corruption:
    """Return a lower resolution: a Gaussian blur with this standard deviation."""
    return lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma_px)


def add_speckle(deviation: float) -> Corruption:
    """Return stronger speckle: multiplicative noise with this standard deviation."""

    def corrupt(frame: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(SPECKLE_SEED).normal(1, deviation, frame.shape)
        return np.clip(frame * noise, 0, 255).astype(np.uint8)

    return corrupt


def reduce_speckle(frame: np.ndarray) -> np.ndarray:
    """Smooth speckle and keep edges, as consoles with speckle reduction do."""
    return cv2.bilateralFilter(cv2.medianBlur(frame, 5), 9, 60, 7)


def enhance_local_contrast(frame: np.ndarray) -> np.ndarray:
    """Equalise the histogram of each part of the frame (CLAHE)."""
    return cv2.createCLAHE(4.0, (8, 8)).apply(frame)


def scale(across: float, down: float) -> Corruption:
    """Return another depth and width of the scan: the frame is scaled about its centre."""

    def corrupt(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape
        affine = np.array([[across, 0, width * (1 - across) / 2], [0, down, height * (1 - down) / 2]])
        return cv2.warpAffine(frame, affine, (width, height))

    return corrupt


def rotate(degrees: float) -> Corruption:
    """Return a rotation about the centre."""

    def corrupt(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape
        return cv2.warpAffine(frame, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height))

    return corrupt


def crop_to_sector(frame: np.ndarray) -> np.ndarray:
    """Blacken what a curved probe would not show."""
    height, width = frame.shape
    rows, columns = np.mgrid[0:height, 0:width]
    angle = np.arctan2(columns - width / 2, rows + 0.15 * height)
    return np.where(np.abs(angle) < 0.6, frame, np.uint8(0))


INTENSITY_CORRUPTIONS: dict[str, Corruption] = {
    "unchanged": lambda frame: frame,
    "gamma 0.5": correct_gamma(0.5),
    "gamma 2": correct_gamma(2),
    "gamma 3": correct_gamma(3),
    "dynamic range cut at 40": reduce_dynamic_range(40),
    "dynamic range cut at 90": reduce_dynamic_range(90),
    "gain rises with depth": change_tgc(1),
    "gain falls with depth": change_tgc(-1),
    "inverted": lambda frame: 255 - frame,
    "blur 3 px": blur(3),
    "blur 6 px": blur(6),
    "speckle 0.3": add_speckle(0.3),
    "speckle 0.7": add_speckle(0.7),
    "speckle reduction": reduce_speckle,
    "local contrast": enhance_local_contrast,
}
SPATIAL_CORRUPTIONS: dict[str, Corruption] = {  # they change the truth, too
    "half the size": scale(0.5, 0.5),
    "1.7 times the size": scale(1.7, 1.7),
    "1.6 times as wide, 0.8 times as high": scale(1.6, 0.8),
    "rotated by 30 degrees": rotate(30),
    "rotated by 90 degrees": rotate(90),
    "upside down": lambda frame: np.ascontiguousarray(frame[::-1]),
    "sector of a curved probe": crop_to_sector,
}
