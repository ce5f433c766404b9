"""The lessons are correct: circuits compute, gradients equal TensorFlow's, and loops equal Keras' layers."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.digits import convolutions, cost
from training.digits.backpropagation import CrossEntropy, Network, SquaredError, tensorflow_difference, to_rows
from training.digits.nets import make_keras_object
from training.digits.perceptron import NAND, PAIRS, Perceptron, add, sigmoid_nand, xor
from training.digits.universality import approximate, approximation_error

pytestmark = pytest.mark.slow


def test_nand_has_its_truth_table():
    assert Perceptron(w=(-2, -2), b=3) == NAND
    assert [NAND(a, b) for a, b in PAIRS] == [1, 1, 1, 0]


def test_circuits_of_nands_compute_xor_and_add_two_bits():
    assert [xor(a, b) for a, b in PAIRS] == [0, 1, 1, 0]
    assert [add(a, b) for a, b in PAIRS] == [(0, 0), (1, 0), (1, 0), (0, 1)]


@given(st.tuples(st.floats(-5, 5), st.floats(-5, 5)).filter(lambda x: abs(3 - 2 * x[0] - 2 * x[1]) > 0.1))
def test_a_sigmoid_neuron_approaches_the_perceptron_as_its_weights_grow(x):
    distances = [abs(sigmoid_nand(factor)(*x) - NAND(*x)) for factor in (1, 2, 5, 20, 100)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4


def test_the_error_falls_as_the_hidden_layer_grows():
    largest = {width: approximation_error(width)["worst_error"][0] for width in (5, 10, 20, 40, 80, 160, 320)}
    assert list(largest.values()) == sorted(largest.values(), reverse=True)
    assert largest[320] < largest[80] / 3
    assert largest[320] < 0.005


def test_one_hidden_layer_also_approximates_another_function():
    x = np.linspace(0, 1, 500)
    assert np.abs(approximate(np.exp, 200)(x) - np.exp(x)).max() < 0.01


@pytest.mark.parametrize("sizes", [[784, 15, 10], [784, 30, 20, 10], [3, 1]])
def test_the_gradients_equal_tensorflows(sizes):
    random = np.random.default_rng(0)
    x, y = random.random((sizes[0], 32)), random.random((sizes[-1], 32))
    assert tensorflow_difference(Network(sizes, 1, SquaredError()), x, y) < 1e-5


@pytest.mark.parametrize("cost_", [SquaredError(), CrossEntropy()])
def test_the_gradients_equal_the_numerical_derivative_of_the_cost(cost_):
    random = np.random.default_rng(0)
    x, y = random.random((4, 8)), random.random((2, 8))
    network = Network([4, 3, 2], 1, cost_)
    dW, db = network.gradients(x, y)
    for layer in (2, 3):
        for weights, gradient in ((network.W[layer], dW[layer]), (network.b[layer], db[layer])):
            for index in np.ndindex(*weights.shape):
                original, costs = weights[index], []
                for step in (1e-5, -1e-5):
                    weights[index] = original + step
                    _, a = network.forward(x)
                    costs.append(cost_.value(a[3], y))
                weights[index] = original
                assert gradient[index] == pytest.approx((costs[0] - costs[1]) / 2e-5, abs=1e-8)


def test_the_numpy_network_classifies_nine_of_ten_digits(digits):
    training, test = digits
    network = Network([784, 15, 10], 1, SquaredError())
    for _ in network.train(*to_rows(training), epochs=1, batch=10, eta=3.0, seed=1):
        pass
    assert network.accuracy(*to_rows(test)) > 0.9


def test_a_neuron_that_is_badly_wrong_learns_late_with_squared_error_only():
    def outputs(start: float) -> list:
        return [cost.train_neuron(kind, start, epochs=300, eta=0.15)["output"] for kind in cost.COSTS.values()]

    squared_error, cross_entropy = outputs(start=2.0)
    assert squared_error[50] > 0.95
    assert cross_entropy[50] < 0.2
    squared_error, cross_entropy = outputs(start=0.6)
    assert squared_error[299] < 0.15 > cross_entropy[299]


def _keras(layer, image: np.ndarray, kernel: np.ndarray | None = None) -> np.ndarray:
    """The output of a Keras layer with the kernel (k, k) for an image (H, W)."""
    layer.build((1, *image.shape, 1))
    if kernel is not None:
        layer.set_weights([kernel[..., np.newaxis, np.newaxis]])
    return np.asarray(layer(image[np.newaxis, ..., np.newaxis]))[0, ..., 0]


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolve_equals_keras(side, dilation):
    random = np.random.default_rng(side)
    image, kernel = random.random((12, 15)), random.standard_normal((side, side))
    ours = convolutions.convolve(image, kernel, dilation)
    assert ours.shape == (12 - dilation * (side - 1), 15 - dilation * (side - 1))
    theirs = _keras(keras.layers.Conv2D(1, side, dilation_rate=dilation, use_bias=False), image, kernel)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 2), (2, 3)])
def test_convolve_transposed_equals_keras(side, stride):
    random = np.random.default_rng(side)
    image, kernel = random.random((6, 7)), random.standard_normal((side, side))
    ours = convolutions.convolve_transposed(image, kernel, stride)
    theirs = _keras(keras.layers.Conv2DTranspose(1, side, strides=stride, use_bias=False), image, kernel)
    if stride > side:  # Keras adds the gap after the last pixel
        theirs = theirs[: ours.shape[0], : ours.shape[1]]
    assert ours.shape == (stride * 5 + side, stride * 6 + side)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_transposed_convolution_is_the_adjoint_of_the_convolution():
    """<convolve(image), other> = <image, convolve_transposed(other)>: the reason for the name."""
    random = np.random.default_rng(0)
    image, other, kernel = random.random((9, 9)), random.random((7, 7)), random.random((3, 3))
    left = (convolutions.convolve(image, kernel) * other).sum()
    right = (image * convolutions.convolve_transposed(other, kernel, stride=1)).sum()
    assert left == pytest.approx(right)


@pytest.mark.parametrize("kind", ["max", "average", "L2"])
def test_pool_equals_keras(kind):
    image = np.random.default_rng(0).random((10, 13))
    output = image[np.newaxis, ..., np.newaxis]
    for entry in convolutions.pooling_layers(kind):
        output = make_keras_object(keras.layers, entry)(output)
    np.testing.assert_allclose(convolutions.pool(image, kind), np.asarray(output)[0, ..., 0], atol=1e-6)
