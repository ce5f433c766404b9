"""Whether a frame looks like those that the network was trained on; training learns what they look like by `looks`."""

import cv2
import numpy as np

from service.card import Familiar

HEIGHT, WIDTH = 96, 128  # pixels at which frames are looked at
BLACK = 0.03  # of the brightest: no echo
# The two upper corners, triangles of 0.4 of the height and 0.3 of the width: nothing lies there, beside the sector that
# the probe of a heart or a belly draws.
BESIDE = np.add(*np.ogrid[: 1 / 0.4 : HEIGHT * 1j, : 1 / 0.3 : WIDTH * 1j]) < 1
BESIDE |= BESIDE[:, ::-1]
UNFAMILIAR = "the frame does not look like those the model was trained on: its mask may mean nothing"


def looks(pixels: np.ndarray) -> np.ndarray:
    """How a frame looks, whatever its gain, size and depth: float64 (11,).

    pixels: uint8 or uint16 (height, width). Of the greys, stretched to 96x128 and normalised by their mean and
    deviation: skewness; share below a deviation under the mean; how alike neighbours are, down and across, one and
    four pixels apart (an echo is longer across than deep, noise is like nothing, a photograph as smooth either way);
    how the rows' and the columns' means vary; how grey falls with depth, and how alike left and right are; the root of
    the share of the upper corners that is black (few have any: the share itself makes those outliers).
    """
    small = cv2.resize(_halved(pixels), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = (small - small.mean()) / (small.std() + 1e-3 * max(1.0, float(small.max())))
    down, across = grey.mean(axis=1), grey.mean(axis=0)
    return np.array(
        [
            np.vdot(grey * grey, grey) / grey.size,
            np.mean(grey < -1),
            *(_apart(grey[step:], grey[:-step]) for step in (1, 4)),
            *(_apart(grey[:, step:], grey[:, :-step]) for step in (1, 4)),
            down.std(),
            across.std(),
            np.mean(down * np.linspace(-1, 1, HEIGHT)),
            np.vdot(grey, grey[:, ::-1]) / grey.size,
            np.mean(small[BESIDE] <= BLACK * small.max()) ** 0.5,
        ],
        np.float64,
    )


def _halved(pixels: np.ndarray) -> np.ndarray:
    """As small as means of four make it, which are quick, without falling below what is looked at."""
    while pixels.shape[0] >= 2 * HEIGHT and pixels.shape[1] >= 2 * WIDTH:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return pixels


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of their difference."""
    return cv2.norm(one, other, cv2.NORM_L2) / one.size**0.5


def distance(pixels: np.ndarray, familiar: Familiar) -> float:
    """How far a frame looks from the training frames: Mahalanobis' distance, in deviations."""
    return float(np.linalg.norm(np.array(familiar.whitening) @ (looks(pixels) - familiar.mean)))


def notes(pixels: np.ndarray, familiar: Familiar | None) -> tuple[str, ...]:
    """What an answer has to say of an unfamiliar frame; nothing where the card does not know what is familiar."""
    return (UNFAMILIAR,) if familiar and distance(pixels, familiar) > familiar.limit else ()
