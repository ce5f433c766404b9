"""Recompute the statistics of batch normalisation after training."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import layers


def recalibrate_batch_norm(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set all moving means and variances to the average over `batches`, without augmentation and dropout.

    The statistics of the training belong to augmented inputs and to weights before their moving average. Precise batch
    normalisation: Wu and Johnson 2021 (arXiv 2105.07576), section 3.

    batches: inputs (B, ...), all of the same B. A model without batch normalisation stays as it is.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    dropouts = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    momenta, rates = [norm.momentum for norm in norms], [dropout.rate for dropout in dropouts]
    for dropout in dropouts:
        dropout.rate = 0.0
    for count, inputs in enumerate(batches):
        for norm in norms:
            norm.momentum = count / (count + 1)  # the moving average is then the mean of all batches so far
        model(np.asarray(inputs, np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for dropout, rate in zip(dropouts, rates, strict=True):
        dropout.rate = rate
