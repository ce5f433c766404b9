"""Recalibration sets the moving statistics to those of the given batches."""

import keras
import numpy as np

from training.models.batch_norm_recalibration import recalibrate_batch_norm
from training.models.unet import DROPOUT_RATE, build_unet
from training.workspace.nerve_parameters import InputParameters, Net


def test_statistics_become_those_of_the_given_frames():
    net = Net(filters=[8, 16], stem=2, batch_norm=True, heads=["mask", "presence"])
    model = build_unet(net, InputParameters(height=32, width=48, normalization="frame"))
    frames = np.random.default_rng(1).normal(3.0, 2.0, (16, 32, 48, 1)).astype(np.float32)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    first.moving_mean.assign(np.full(8, 100.0))
    recalibrate_batch_norm(model, np.split(frames, 4))
    inputs = keras.Model(model.inputs[0], first.input)(frames).numpy()
    np.testing.assert_allclose(first.moving_mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first.moving_variance, inputs.var(axis=(0, 1, 2)), rtol=0.05)
    assert first.momentum == 0.9
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [dropout.rate for dropout in dropouts] == [DROPOUT_RATE]
