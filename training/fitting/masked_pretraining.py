"""Masked-image pre-training: the network reconstructs hidden squares of frames. It needs no labelled masks.

Reconstruction as a task: Pathak et al. 2016 (arXiv 1604.07379). Random hidden squares: Xie et al. 2022 (SimMIM, arXiv
2111.09886).
"""

import keras
import numpy as np

from training.fitting.batches import ShuffledBatches
from training.workspace.nerve_parameters import Recipe

SQUARE_PX = 16
HIDDEN_SHARE = 0.5  # of the squares
MAX_DEVIATION = 2.0  # normalised grey values of -2 and 2 become targets 0 and 1


class MaskedFrameBatches(ShuffledBatches):
    """Batches of frames with hidden squares at the frame's mean, and the complete frames as targets in 0..1.

    Both are float32 (B, height, width, 1).
    """

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        indices, rng = self.draw(index)
        frames = self.frames[indices]
        count, height, width = frames.shape
        rows, columns = -(-height // SQUARE_PX), -(-width // SQUARE_PX)  # rounded up
        squares = rng.random((count, rows, columns)) < HIDDEN_SHARE
        hidden = squares.repeat(SQUARE_PX, axis=1).repeat(SQUARE_PX, axis=2)[:, :height, :width]
        targets = np.clip((frames / MAX_DEVIATION + 1) / 2, 0, 1)
        return np.where(hidden, np.float32(0), frames)[..., np.newaxis], targets[..., np.newaxis]


def pretrain_on_masked_frames(
    model: keras.Model, frames: np.ndarray, recipe: Recipe, seed: int, optimizer: keras.Optimizer
) -> None:
    """Train the model's head "mask" to reconstruct hidden squares, at the learning rate of the recipe's first phase.

    frames: float32 (N, height, width), normalised.
    """
    optimizer.learning_rate = recipe.phases[0].learning_rate
    reconstruction = keras.Model(model.inputs, model.output["mask"])
    reconstruction.compile(optimizer, loss="mse")
    batches = MaskedFrameBatches(frames, recipe, seed)
    reconstruction.fit(batches, epochs=recipe.masked_pretraining_epochs, verbose=0)
