"""Knowledge distillation: one network learns from the mean prediction of several teachers.

Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), with the networks of a cross-validation as teachers.
"""

from collections.abc import Iterator

import keras
import numpy as np

from training.data.prepared_arrays import FrameArrays

LABEL_WEIGHT = 0.5  # share of the labelled mask in a soft target; the teachers have the rest
TEACHER_BATCH_SIZE = 16


def distillation_folds(arrays: FrameArrays, count: int) -> Iterator[FrameArrays]:
    """Yield the training frames of each of `count` teachers: all but one fold of neighbouring frames."""
    for fold in np.array_split(np.arange(len(arrays.frames)), count):
        yield FrameArrays(np.delete(arrays.frames, fold, axis=0), np.delete(arrays.masks, fold, axis=0))


def soft_targets(arrays: FrameArrays, teachers: list[keras.Model]) -> np.ndarray:
    """Return the masks as float32 (N, height, width, C), 0..1.

    The nerve is the weighted mean of the label and the teachers' mean prediction.
    """
    frames, masks = arrays
    prediction = np.zeros((*masks.shape[:3], 1), np.float32)
    for start in range(0, len(frames), TEACHER_BATCH_SIZE):
        batch = slice(start, start + TEACHER_BATCH_SIZE)
        prediction[batch] = np.mean([teacher(frames[batch, ..., np.newaxis])["mask"] for teacher in teachers], axis=0)
    nerve = LABEL_WEIGHT * masks[..., :1] + (1 - LABEL_WEIGHT) * prediction
    return np.concatenate([nerve, masks[..., 1:]], axis=-1, dtype=np.float32)
