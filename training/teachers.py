"""What several nets agree upon, for one net to learn that is served alone.

Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), with the nets of a cross-validation as teachers. Frames are float32
(N, height, width), normalised; masks (N, height, width, C), 0..1: nerve, then vessel.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

DRAWN = 0.5  # share of a pixel's target that the drawn mask keeps
BATCH = 16


def lessons(frames: np.ndarray, masks: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What each of `count` teachers learns: all frames but those of one stretch of neighbours, and their masks."""
    for unseen in np.array_split(np.arange(len(frames)), count):
        yield np.delete(frames, unseen, axis=0), np.delete(masks, unseen, axis=0)


def softened(frames: np.ndarray, masks: np.ndarray, teachers: list["keras.Model"]) -> np.ndarray:
    """The masks as float32, in which the nerve is by DRAWN what was drawn, and for the rest the teachers' mean."""
    said = np.zeros((*masks.shape[:3], 1), np.float32)
    for start in range(0, len(frames), BATCH):
        some = slice(start, start + BATCH)
        said[some] = np.mean([teacher(frames[some, ..., np.newaxis])["mask"] for teacher in teachers], axis=0)
    nerve = DRAWN * masks[..., :1] + (1 - DRAWN) * said
    return np.concatenate([nerve, masks[..., 1:]], axis=-1, dtype=np.float32)
