"""Out-of-distribution detection: does a frame look like the training frames?

A frame is described by `image_features`. Training stores the mean and covariance of the training frames' features in
the card. A frame is out of distribution if its Mahalanobis distance exceeds the card's limit.
"""

import cv2
import numpy as np

from service.model.card import OutOfDistributionStats

HEIGHT_PX, WIDTH_PX = 96, 128  # size at which features are computed
MAX_BLACK = 0.03  # share of the brightest grey value up to which a pixel holds no echo
CORNER_HEIGHT_SHARE, CORNER_WIDTH_SHARE = 0.4, 0.3  # of the frame's height and width
OUT_OF_DISTRIBUTION_NOTE = "the frame does not look like the frames the model was trained on: its mask may be wrong"


def _upper_corners() -> np.ndarray:
    """Return which pixels are in the two upper corners, bool (HEIGHT_PX, WIDTH_PX). Each corner is a triangle.

    The corners are black in frames of sector probes, which scan hearts and bellies.
    """
    rows = np.linspace(0, 1 / CORNER_HEIGHT_SHARE, HEIGHT_PX)[:, np.newaxis]  # 1 at the foot of a corner
    columns = np.linspace(0, 1 / CORNER_WIDTH_SHARE, WIDTH_PX)  # 1 at the right end of the left corner
    left_corner = rows + columns < 1
    return left_corner | left_corner[:, ::-1]


UPPER_CORNERS = _upper_corners()


def image_features(pixels: np.ndarray) -> np.ndarray:
    """Return 11 features of a frame's look, float64 (11,). Gain, size and depth of the scan change them little.

    pixels: uint8 or uint16 (height, width).

    The frame is resized to 96x128 and normalised by its mean and standard deviation. Features, in order:

    - skewness; share of pixels more than one standard deviation below the mean;
    - root mean square difference of pixels 1 and 4 apart, down, then 1 and 4 apart, across. Echoes are wider than
      deep, noise differs everywhere, a photograph is equally smooth in both directions;
    - standard deviation of the row means, and of the column means;
    - how grey falls with depth; how similar the left and right halves are;
    - square root of the black share of the upper corners. Few training frames have black corners, and the share itself
      would make those outliers.
    """
    resized = cv2.resize(_halve_while_large(pixels), (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    image = resized.astype(np.float32)
    grey = (image - image.mean()) / (image.std() + 1e-3 * max(1.0, float(image.max())))
    row_means, column_means = grey.mean(axis=1), grey.mean(axis=0)
    return np.array(
        [
            np.mean(grey * grey * grey),
            np.mean(grey < -1),
            *(_rms_difference(grey[step:], grey[:-step]) for step in (1, 4)),
            *(_rms_difference(grey[:, step:], grey[:, :-step]) for step in (1, 4)),
            row_means.std(),
            column_means.std(),
            np.mean(row_means * np.linspace(-1, 1, HEIGHT_PX)),
            np.mean(grey * grey[:, ::-1]),
            np.mean(image[UPPER_CORNERS] <= MAX_BLACK * image.max()) ** 0.5,
        ],
        np.float64,
    )


def _halve_while_large(pixels: np.ndarray) -> np.ndarray:
    """Halve both sides while the result is at least HEIGHT_PX x WIDTH_PX. Halving is the fastest area resampling."""
    while pixels.shape[0] >= 2 * HEIGHT_PX and pixels.shape[1] >= 2 * WIDTH_PX:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return pixels


def _rms_difference(first: np.ndarray, second: np.ndarray) -> float:
    return cv2.norm(first, second, cv2.NORM_L2) / first.size**0.5


def mahalanobis_distance(pixels: np.ndarray, stats: OutOfDistributionStats) -> float:
    """Return the Mahalanobis distance of a frame's features from the training frames, in standard deviations."""
    return float(np.linalg.norm(np.array(stats.whitening) @ (image_features(pixels) - stats.mean)))


def out_of_distribution_notes(distance: float | None, stats: OutOfDistributionStats | None) -> tuple[str, ...]:
    """Return the note for a frame that is out of distribution; nothing for others, or if the card holds no stats.

    distance: of `mahalanobis_distance`.
    """
    return (OUT_OF_DISTRIBUTION_NOTE,) if stats and distance is not None and distance > stats.limit else ()
