"""A network's probabilities to a mask, and to the Dice that the mask is likely to reach."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from service.card import Decision, Logistic

# Probabilities are told apart by the first 16 bits of their float32, to under a hundredth of themselves: an integer a
# pixel, and a calibration is a table.
LEVELS = (int(np.float32(1).view(np.uint32)) >> 16) + 1
SAMPLED = 128  # rows and columns of a frame that tell its sums well enough, at the least


def decide(probability: np.ndarray, presence: float, decision: Decision) -> np.ndarray:
    """The mask of the greatest expected Dice without its faint parts, uint8 (height, width), 0 or 255: empty where the
    presence, or the mask's area, is below its least.

    probability: float32 (height, width), 0..1, at the frame's own resolution. presence: as the network says it.
    """
    if decision.presence_calibration(presence) < decision.presence:
        return np.zeros(probability.shape, np.uint8)
    cut = best_cut(probability, decision.pixel_calibration)
    mask = _drawn(probability, cut)
    sure = _sure(probability, decision)
    if sure > cut and len(_outlines(mask)) > 1:
        mask = _with_any(mask, _drawn(probability, sure))
    if decision.components:
        _keep_largest(mask, decision.components)
    if cv2.countNonZero(mask) < decision.min_area * mask.size:
        mask[:] = 0
    return mask


def best_cut(probability: np.ndarray, calibration: Logistic) -> np.float32:
    """The probability from which on pixels make the mask of the greatest expected Dice.

    Where pixels are nerve as often as their calibrated probability says, those belong to it that are more probable
    than half the Dice it is expected to reach (Lipton, Elkan and Naryanaswamy 2014, theorem 1; of F1, which is Dice).
    probability: float32 (height, width), 0..1.
    """
    nerve = calibrated(calibration)
    pixels = np.bincount(levels(_sampled(probability)), minlength=LEVELS)[::-1]
    drawn, found = pixels.cumsum(), (pixels * nerve[::-1]).cumsum()
    reached = 2 * found / (drawn + found[-1])
    return _least(nerve, reached.max() / 2)


def certainty(probability: np.ndarray, mask: np.ndarray, calibration: Logistic) -> float | None:
    """How probable nerve is in the mask's pixels, on average, 0..1; None where it is empty.

    It tells more of the Dice that the mask reaches than the Dice that its pixels let expect, to which all that is faint
    around it adds. probability: float32 (height, width), 0..1. mask: uint8 (height, width), 0 or 255.
    """
    if not cv2.countNonZero(mask):
        return None
    return float(calibrated(calibration)[levels(probability[mask > 0])].mean())


def levels(probability: np.ndarray) -> np.ndarray:
    """Each pixel's level, uint32 (pixels,), 0..LEVELS - 1. probability: float32, 0..1, contiguous."""
    return probability.reshape(-1).view(np.uint32) >> 16


@lru_cache(maxsize=8)
def calibrated(calibration: Logistic) -> np.ndarray:
    """How probable a nerve is at each level, float64 (LEVELS,)."""
    middle = (np.arange(LEVELS, dtype=np.uint32) << 16) | 0x8000
    return calibration.of_all(np.minimum(middle.view(np.float32), 1))


def _sure(probability: np.ndarray, decision: Decision) -> np.float32:
    """The probability that a part of the mask has to reach somewhere, or it is too faint beside the frame's best."""
    nerve = calibrated(decision.pixel_calibration)
    return _least(nerve, decision.faint * nerve[levels(probability.max(keepdims=True))[0]])


def _least(nerve: np.ndarray, wanted: float) -> np.float32:
    """The least probability that is `wanted` or more when it is calibrated. nerve: `calibrated`, (LEVELS,)."""
    level = min(int(np.searchsorted(nerve, wanted)), LEVELS - 1)
    return np.float32(np.uint32(level << 16).view(np.float32))


def _drawn(probability: np.ndarray, cut: np.float32) -> np.ndarray:
    """uint8 (height, width), 255 from `cut` on."""
    return (probability >= cut).view(np.uint8) * np.uint8(255)


def _with_any(mask: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The connected parts of the mask that hold a pixel of `wanted`; both uint8 (height, width), 0 or 255."""
    for x, y in (outline[0, 0] for outline in _outlines(wanted)):
        if mask[y, x] == 255:  # not yet met by another part of `wanted`
            cv2.floodFill(mask, None, (int(x), int(y)), 1, flags=8)
    return (mask == 1).view(np.uint8) * np.uint8(255)


def _sampled(picture: np.ndarray) -> np.ndarray:
    """Every so manieth row and column."""
    step = max(1, min(picture.shape) // SAMPLED)
    return np.ascontiguousarray(picture[::step, ::step])


def _keep_largest(mask: np.ndarray, components: int) -> None:
    """Blacken all but the largest connected parts of the mask, by the area inside their outlines."""
    smaller = sorted(_outlines(mask), key=cv2.contourArea)[:-components]
    cv2.drawContours(mask, smaller, -1, 0, cv2.FILLED)


def _outlines(mask: np.ndarray) -> Sequence[np.ndarray]:
    """The outer outline of each connected part, int32 (points, 1, 2): in a tenth of the time of labels."""
    return cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
