"""The encoder's own learning rate."""

import numpy as np
import pytest

from tests.training.fitting.tiny_candidate import make_discs, make_recipe
from training.data.prepared_arrays import FrameArrays
from training.fitting.trainer import train
from training.models.efficientnet import ENCODER_PREFIX
from training.models.imagenet_weights import load_imagenet_weights
from training.models.unet import build_unet
from training.workspace.nerve_parameters import Candidate, InputParameters, Net

pytestmark = [
    pytest.mark.training,
    pytest.mark.filterwarnings("ignore"),  # warnings of TensorFlow
]


def test_an_encoder_with_learning_rate_0_keeps_its_imagenet_weights(eager_keras):
    net = Net(
        filters=[8, 8, 8, 8],
        stem=2,
        batch_norm=True,
        heads=["mask", "presence"],
        encoder="efficientnet_lite0",
        encoder_weights="imagenet",
    )
    size = InputParameters(height=32, width=64, normalization="frame")
    frames, masks = (np.pad(array, ((0, 0), (0, 0), (8, 8)) + ((0, 0),) * (array.ndim - 3)) for array in make_discs(8))
    splits = dict.fromkeys(("train", "validation"), FrameArrays(frames, masks))
    recipe = make_recipe(1, encoder_lr_multiplier=0.0, steps_per_epoch=2)
    model, _ = train(Candidate(input=size, tta="none", net=net, recipe=recipe), splits, seed=1)

    imagenet = build_unet(net, size)
    load_imagenet_weights(imagenet)
    kernel = f"{ENCODER_PREFIX}_blocks.3._expand_conv"
    np.testing.assert_array_equal(model.get_layer(kernel).get_weights(), imagenet.get_layer(kernel).get_weights())
    decoder = next(layer for layer in model.layers if "conv2d_transpose" in layer.name)
    assert np.abs(decoder.get_weights()[1]).max() > 0  # biases start at 0
