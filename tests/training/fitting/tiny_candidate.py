"""A tiny candidate and frames on which it learns within seconds."""

import numpy as np

from training.data.prepared_arrays import FrameArrays
from training.workspace.nerve_parameters import Candidate, InputParameters, Net, Phase, Recipe

TINY_NET = Net(filters=[8, 16], stem=2, batch_norm=True, heads=["mask", "presence", "vessel"])
SIZE = InputParameters(height=32, width=48, normalization="frame")
DISC_RADIUS_PX = 6


def make_discs(count: int, seed: int = 0) -> FrameArrays:
    """Return noise with a bright disc in every second frame: frames float32 (N, 32, 48), masks uint8 (N, 32, 48, 1)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE.height, : SIZE.width]
    frames = rng.normal(0, 0.5, (count, SIZE.height, SIZE.width)).astype(np.float32)
    masks = np.zeros((*frames.shape, 1), np.uint8)
    for i in range(0, count, 2):
        y, x = rng.integers(10, 22), rng.integers(10, 38)
        masks[i, ..., 0] = (rows - y) ** 2 + (columns - x) ** 2 < DISC_RADIUS_PX**2
        frames[i] += 2.0 * masks[i, ..., 0]
    return FrameArrays(frames, masks)


def make_recipe(epochs: int, **changes) -> Recipe:
    defaults = {
        "loss": "cross_entropy_dice",
        "batch_size": 8,
        "steps_per_epoch": 8,
        "phases": [Phase(epochs=epochs, learning_rate=1e-2, decay="cosine")],
    }
    return Recipe(**defaults | changes)


def make_candidate(recipe: Recipe, **net_changes) -> Candidate:
    return Candidate(input=SIZE, tta="none", net=TINY_NET.model_copy(update=net_changes), recipe=recipe)
