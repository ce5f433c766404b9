"""The learning rate of each epoch."""

import math

from training.workspace.nerve_parameters import Phase


def learning_rate(phases: list[Phase], epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0; 0 after the last phase.

    Cosine decay: Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, with a minimum of 0 and without restarts.
    """
    for phase in phases:
        if epoch < phase.epochs:
            decay = (1 + math.cos(math.pi * epoch / phase.epochs)) / 2 if phase.decay == "cosine" else 1.0
            return phase.learning_rate * decay
        epoch -= phase.epochs
    return 0.0
