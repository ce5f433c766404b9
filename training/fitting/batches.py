"""Batches of frames with a target for each head: shuffled and augmented for training, in order for validation."""

import math

import keras
import numpy as np

from training.data.prepared_arrays import FrameArrays
from training.data.sharded_array import shuffle_rows
from training.fitting.augmentation import augment
from training.workspace.nerve_parameters import Recipe


class TrainingBatches(keras.utils.PyDataset):
    """Batches of augmented frames, float32 (B, height, width, 1), and their targets by head; see `head_targets`.

    The frames have a new order in each epoch. The same seed gives the same batches: each batch has its own random
    generator, so the worker threads may make the batches in any order.

    arrays: the training frames.
    """

    def __init__(self, arrays: FrameArrays, recipe: Recipe, heads: list[str], seed: int):
        super().__init__(workers=2, max_queue_size=8)
        self.arrays = arrays
        self.recipe = recipe
        self.heads = heads
        self.seed = seed
        self.epoch = 0
        self.order = self._shuffle()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        start = index * self.recipe.batch_size
        indices = self.order[start : start + self.recipe.batch_size]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        frames, masks = self.arrays.frames[indices], self.arrays.masks[indices]
        if self.recipe.augment is not None:
            pairs = [augment(*pair, self.recipe.augment, rng) for pair in zip(frames, masks, strict=True)]
            frames, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return frames[..., np.newaxis], head_targets(masks, self.heads)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.order = self._shuffle()

    def _shuffle(self) -> np.ndarray:
        """Return the frame indices of this epoch: as many random orders as its steps need."""
        rng = np.random.default_rng((self.seed, self.epoch))
        count, steps = len(self.arrays.frames), self.recipe.steps_per_epoch
        length = steps * self.recipe.batch_size if steps else count
        # An epoch over a part of the frames takes any of them.
        shuffle = shuffle_rows if length >= count else lambda count, rng: rng.permutation(count)
        orders = [shuffle(count, rng) for _ in range(math.ceil(length / count))]
        return np.concatenate(orders)[:length]


class ValidationBatches(keras.utils.PyDataset):
    """Batches of frames in order, float32 (B, height, width, 1), and their targets by head; see `head_targets`."""

    def __init__(self, arrays: FrameArrays, batch_size: int, heads: list[str]):
        super().__init__(workers=2, max_queue_size=8)
        self.arrays = arrays
        self.batch_size = batch_size
        self.heads = heads

    def __len__(self) -> int:
        return math.ceil(len(self.arrays.frames) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.arrays.frames[rows][..., np.newaxis], head_targets(self.arrays.masks[rows], self.heads)


def head_targets(masks: np.ndarray, heads: list[str]) -> dict[str, np.ndarray]:
    """Return the float32 target of each head: presence (B, 1), the others (B, height, width, 1).

    masks: (B, height, width, C), 0 or 1: nerve, then vessel, after augmentation. Presence is 1 if any pixel of the
    nerve is in the augmented frame.
    """
    masks = masks.astype(np.float32)
    nerve = masks[..., :1]
    targets = {}
    for head in heads:
        if head == "presence":
            targets[head] = nerve.max(axis=(1, 2))
        elif head == "vessel":
            targets[head] = masks[..., 1:2]
        else:  # mask, deep_supervision_K
            targets[head] = nerve
    return targets
