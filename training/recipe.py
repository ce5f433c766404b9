"""What U-nets and the digits' nets have in common in their training: learning rates by epoch."""

import math

from training.parameters import Phase


def learning_rate(phases: list[Phase], epoch: int) -> float:
    """The learning rate of an epoch, counted from 0."""
    for phase in phases:
        if epoch < phase.epochs:
            fallen = (1 + math.cos(math.pi * epoch / phase.epochs)) / 2 if phase.decay == "cosine" else 1.0
            return phase.learning_rate * fallen
        epoch -= phase.epochs
    return 0.0
