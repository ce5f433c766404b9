"""Fused batch normalisation trains as Keras' own layer does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.models.fused_batch_norm import FusedBatchNormalization, fuse_batch_norm
from training.models.unet import build_unet
from training.workspace.nerve_parameters import read_candidate

pytestmark = pytest.mark.slow  # TensorFlow


def run(layer: keras.layers.Layer, inputs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a layer's output in training, and the gradients of its weights and its input."""
    layer.build(inputs.shape)
    layer.gamma.assign(np.linspace(0.5, 2, inputs.shape[-1]))
    with tf.GradientTape() as tape:
        tensor = tf.constant(inputs)
        tape.watch(tensor)
        output = layer(tensor, training=True)
        loss = tf.reduce_sum(output**3)
    return output.numpy(), [gradient.numpy() for gradient in tape.gradient(loss, [layer.gamma, layer.beta, tensor])]


def test_outputs_gradients_and_moving_statistics_are_those_of_keras() -> None:
    inputs = np.random.default_rng(1).normal(3, 2, (4, 6, 5, 8)).astype(np.float32)
    layers = keras.layers.BatchNormalization(momentum=0.9), FusedBatchNormalization(momentum=0.9)
    (output, gradients), (fused_output, fused_gradients) = (run(layer, inputs) for layer in layers)
    np.testing.assert_allclose(fused_output, output, atol=1e-5)
    for gradient, fused_gradient in zip(gradients, fused_gradients, strict=True):
        np.testing.assert_allclose(fused_gradient, gradient, rtol=1e-3, atol=1e-3)
    for weight, fused_weight in zip(layers[0].weights, layers[1].weights, strict=True):
        np.testing.assert_allclose(fused_weight, weight, rtol=1e-5, err_msg=weight.name)


@pytest.mark.parametrize("name", ["light", "deep"])
def test_the_copy_has_the_names_and_weights_of_the_model(name) -> None:
    candidate = read_candidate(name)
    model = build_unet(candidate.net.model_copy(update={"encoder_weights": "random"}), candidate.input)
    copy = fuse_batch_norm(model)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert any(isinstance(layer, FusedBatchNormalization) for layer in copy.layers)
    for weight, copied in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(copied, weight)
    frame = np.random.default_rng(1).normal(size=(1, candidate.input.height, candidate.input.width, 1))
    np.testing.assert_allclose(copy(frame)["mask"], model(frame)["mask"], atol=1e-6)
