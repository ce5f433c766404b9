"""What U-nets and the digits' nets have in common in their training."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from training.parameters import Phase

if TYPE_CHECKING:
    import keras


def learning_rate(phases: list[Phase], epoch: int) -> float:
    """The learning rate of an epoch, counted from 0."""
    for phase in phases:
        if epoch < phase.epochs:
            fallen = (1 + math.cos(math.pi * epoch / phase.epochs)) / 2 if phase.decay == "cosine" else 1.0
            return phase.learning_rate * fallen
        epoch -= phase.epochs
    return 0.0


def settle(model: "keras.Model", batches: Iterable[np.ndarray]) -> None:
    """Batch normalisation's means and variances anew: from inputs as they are, with nothing dropped.

    Those of the training are of inputs that were moved and changed, and of weights before they were averaged. Wu and
    Johnson 2021 (arXiv 2105.07576). batches: inputs (B, ...), all of one size.
    """
    from keras import layers

    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    drops = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    momenta, rates = [norm.momentum for norm in norms], [drop.rate for drop in drops]
    for drop in drops:
        drop.rate = 0.0
    for seen, inputs in enumerate(batches):
        for norm in norms:
            norm.momentum = seen / (seen + 1)  # so that what moves is the mean of all batches
        model(np.asarray(inputs, np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for drop, rate in zip(drops, rates, strict=True):
        drop.rate = rate
