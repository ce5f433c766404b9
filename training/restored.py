"""Hidden parts of frames drawn again, for a training to begin with: it needs frames alone, no masks.

Pathak et al. 2016 (arXiv 1604.07379), with hidden squares as in Xie et al. 2022 (arXiv 2111.09886).
"""

import keras
import numpy as np

from training.augment import Shuffled
from training.parameters import Recipe

SQUARE_PX = 16
HIDDEN = 0.5  # of the squares
DEVIATIONS = 2.0  # of a frame's grey, between black and white


class Hidden(Shuffled):
    """Batches of frames with squares at their mean grey, and the frames as they are, 0..1.

    A batch is two of float32 (B, height, width, 1).
    """

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen, rng = self.batch(index)
        frames = self.frames[chosen]
        count, height, width = frames.shape
        squares = rng.random((count, -(-height // SQUARE_PX), -(-width // SQUARE_PX))) < HIDDEN
        hidden = squares.repeat(SQUARE_PX, axis=1).repeat(SQUARE_PX, axis=2)[:, :height, :width]
        greys = np.clip((frames / DEVIATIONS + 1) / 2, 0, 1)
        return np.where(hidden, np.float32(0), frames)[..., np.newaxis], greys[..., np.newaxis]


def restore(model: keras.Model, frames: np.ndarray, recipe: Recipe, seed: int, optimizer: keras.Optimizer) -> None:
    """Teach a U-net to draw by its mask's head what was hidden, for the recipe's epochs, at its first rate.

    frames: float32 (N, height, width), normalised.
    """
    optimizer.learning_rate = recipe.phases[0].learning_rate
    draws = keras.Model(model.inputs, model.output["mask"])
    draws.compile(optimizer, loss="mse")
    draws.fit(Hidden(frames, recipe, seed), epochs=recipe.restored, verbose=0)
