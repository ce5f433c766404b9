"""Spatial and intensity augmentation of training frames: more probes and scanner settings than were recorded.

`Augmentation` in training/workspace/nerve_parameters.py describes each parameter. The order of the draws from the
random generator is part of the result: the same seed gives the same frames.
"""

import math

import cv2
import numpy as np

from training.workspace.nerve_parameters import Augmentation

ELASTIC_GRID = (5, 7)  # rows and columns of the coarse displacement grid
TGC_GAINS = 4  # time-gain compensation: number of gains over the depth, and as many across the frame
MIN_CONTRAST = 1e-3  # standard deviations of a normalised frame; keeps the division finite in a uniform frame
MAX_INTENSITY = 1.5  # white is 1
WHITE_PERCENTILE = 99.5
BLUR_PROBABILITY = 0.5
MIN_BLUR_PX = 0.2
SHADOW_HALF_WIDTH_SHARE = (0.03, 0.15)  # minimum and maximum, of the frame's width
MAX_SHADOW_TOP_SHARE = 0.5  # of the frame's height
SHADOW_EDGE_PX = 4
SHADOW_STRENGTH = (0.3, 0.95)  # minimum and maximum: the share of the intensity that a shadow removes


def augment(
    frame: np.ndarray, masks: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame and its masks after the same spatial augmentation; the frame's intensities change, too.

    The results have the shapes and dtypes of frame and masks.

    frame: float32 (height, width), normalised.
    masks: uint8 (height, width, C), 0 or 1.
    """
    frame, masks = _augment_spatially(frame, masks, augmentation, rng)
    frame = _augment_intensity(frame, augmentation, rng)
    return _augment_gain_and_speckle(frame, augmentation, rng), masks


def _augment_spatially(
    frame: np.ndarray, masks: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return frame and masks after a random affine transform and an elastic deformation.

    Pixels from outside the frame are as black as the frame's darkest pixel, and background in the masks.
    """
    height, width = frame.shape
    to_source = cv2.invertAffineTransform(_random_affine(height, width, augmentation, rng)).astype(np.float32)
    black = float(frame.min())
    if augmentation.elastic:
        columns, rows = _elastic_map(to_source, height, width, augmentation.elastic, rng)
        frame = cv2.remap(frame, columns, rows, cv2.INTER_LINEAR, borderValue=black)
        masks = cv2.remap(masks, columns, rows, cv2.INTER_NEAREST).reshape(masks.shape)
    else:  # half the time of cv2.remap
        linear, nearest = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR, cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
        frame = cv2.warpAffine(frame, to_source, (width, height), flags=linear, borderValue=black)
        masks = cv2.warpAffine(masks, to_source, (width, height), flags=nearest).reshape(masks.shape)
    return frame, masks


def _random_affine(height: int, width: int, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return a random shift, zoom, rotation and left-right flip about the frame's centre: float64 (2, 3)."""
    zoom_x, zoom_y = np.exp(rng.uniform(-augmentation.zoom, augmentation.zoom, 2))
    angle = math.radians(rng.uniform(-augmentation.rotate, augmentation.rotate))
    flip = rng.choice((-1.0, 1.0))
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos * zoom_x * flip, -sin * zoom_y], [sin * zoom_x * flip, cos * zoom_y]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])  # in coordinates of pixel centres
    shift = rng.uniform(-augmentation.shift, augmentation.shift, 2) * (width, height)
    return np.column_stack([linear, centre + shift - linear @ centre])


def _elastic_map(
    to_source: np.ndarray, height: int, width: int, elastic: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's source column and source row, float32 (height, width) each, as cv2.remap needs them.

    Adds a smooth random displacement, like tissue under the pressure of a probe, to the affine transform `to_source`:
    float32 (2, 3), from the augmented frame's pixels to the frame's.
    """
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, np.newaxis]
    columns, rows = (x_factor * x + y_factor * y + shift for x_factor, y_factor, shift in to_source)
    columns += elastic * width * _smooth_noise(ELASTIC_GRID, height, width, rng)
    rows += elastic * height * _smooth_noise(ELASTIC_GRID, height, width, rng)
    return columns, rows


def _smooth_noise(grid: tuple[int, int], height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return normal noise of a coarse grid, interpolated to float32 (height, width)."""
    return cv2.resize(rng.standard_normal(grid, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _augment_intensity(frame: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return the same tissue with another gamma, time-gain compensation, acoustic shadow and focus.

    These changes work on an intensity that is 0 at the frame's black and 1 at its white.

    frame: float32 (height, width), normalised.
    """
    if not (augmentation.gamma or augmentation.tgc or augmentation.shadow or augmentation.blur):
        return frame
    height, width = frame.shape
    black = frame.min()
    quarter = frame[::2, ::2]  # a quarter of the pixels is enough for a percentile and takes half the time
    white = max(np.percentile(quarter, WHITE_PERCENTILE) - black, MIN_CONTRAST)
    intensity = np.clip((frame - black) / white, 0.0, MAX_INTENSITY)
    if augmentation.gamma:
        intensity **= np.float32(math.exp(rng.uniform(-augmentation.gamma, augmentation.gamma)))
    if augmentation.tgc:
        intensity *= np.exp(augmentation.tgc * _smooth_noise((TGC_GAINS, 1), height, 1, rng))
        intensity *= np.exp(augmentation.tgc / 2 * _smooth_noise((1, TGC_GAINS), 1, width, rng))
    if rng.random() < augmentation.shadow:
        intensity *= _acoustic_shadow(height, width, rng)
    if augmentation.blur and rng.random() < BLUR_PROBABILITY:
        intensity = cv2.GaussianBlur(intensity, (0, 0), rng.uniform(MIN_BLUR_PX, augmentation.blur))
    return intensity * np.float32(white) + black


def _acoustic_shadow(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return the share of the intensity that bone, gas or bad probe contact leaves, 0..1: float32 (height, width)."""
    centre, half_width = rng.uniform(0, width), rng.uniform(*SHADOW_HALF_WIDTH_SHARE) * width
    top = rng.uniform(0, MAX_SHADOW_TOP_SHARE) * height
    across = np.exp(-(((np.arange(width, dtype=np.float32) - centre) / half_width) ** 2))
    down = 1 / (1 + np.exp((top - np.arange(height, dtype=np.float32)) / SHADOW_EDGE_PX))
    return 1 - np.float32(rng.uniform(*SHADOW_STRENGTH)) * down[:, np.newaxis] * across


def _augment_gain_and_speckle(frame: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return the frame with another contrast and brightness, and with multiplicative noise like speckle."""
    contrast = math.exp(rng.uniform(-augmentation.gain, augmentation.gain))
    brightness = rng.uniform(-augmentation.gain, augmentation.gain)
    # 8-bit uniform noise, scaled to the same standard deviation as normal noise. Random floats would take most of the
    # training time of a small network.
    noise = np.frombuffer(rng.bytes(frame.size), np.uint8).reshape(frame.shape).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(augmentation.speckle * contrast * 12**0.5 / 256)
    noise += np.float32(contrast)
    black = frame.min()
    augmented = frame - black
    augmented *= noise
    augmented += np.float32(black * contrast + brightness)
    return augmented
