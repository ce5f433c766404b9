"""Test-time augmentation (TTA): average the predictions for a frame and for its left-right flip."""

import numpy as np

from service.inference.runtime_interface import Runtime
from service.model.card import Tta


class FlipTta:
    """A runtime that runs each frame as it is and flipped, and returns the mean of both predictions.

    A nerve on the left side of a body looks like the flip of one on the right side. The errors of the two predictions
    are rarely the same.
    """

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.device = runtime.device
        self.precision = runtime.precision

    def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        masks, presences = self.runtime(np.concatenate([batch, batch[:, :, ::-1]]), all_cores)  # (2N, H, W, 1), (2N,)
        mask, flipped_mask = np.split(masks, 2)
        presence, flipped_presence = np.split(presences, 2)
        return (mask + flipped_mask[:, :, ::-1]) / 2, (presence + flipped_presence) / 2


def with_tta(runtime: Runtime, tta: Tta) -> Runtime:
    """Return the runtime with test-time augmentation, or as it is for "none"."""
    return FlipTta(runtime) if tta == "flip" else runtime
