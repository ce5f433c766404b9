"""The lecture's steps hold: circuits compute, gradients are TensorFlow's, loops are Keras' layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.digits import convolutions, cost
from training.digits.backpropagation import CrossEntropy, Network, SquaredError, rows, tensorflow_difference
from training.digits.perceptron import NAND, PAIRS, Perceptron, add, softened, xor
from training.digits.universality import approximate, error


def test_nand_has_its_truth_table():
    assert Perceptron(w=(-2, -2), b=3) == NAND
    assert [NAND(a, b) for a, b in PAIRS] == [1, 1, 1, 0]


def test_networks_of_nands_are_xor_and_add_two_bits():
    assert [xor(a, b) for a, b in PAIRS] == [0, 1, 1, 0]
    assert [add(a, b) for a, b in PAIRS] == [(0, 0), (1, 0), (1, 0), (0, 1)]


@given(st.tuples(st.floats(-5, 5), st.floats(-5, 5)).filter(lambda x: abs(3 - 2 * x[0] - 2 * x[1]) > 0.1))
def test_a_sigmoid_neuron_approaches_the_perceptron_as_its_weights_grow(x):
    distances = [abs(softened(factor)(*x) - NAND(*x)) for factor in (1, 2, 5, 20, 100)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4


def test_a_wider_layer_comes_nearer_and_its_error_falls_with_the_width():
    worst = {width: error(width)["worst_error"][0] for width in (5, 10, 20, 40, 80, 160, 320)}
    assert list(worst.values()) == sorted(worst.values(), reverse=True)
    assert worst[320] < worst[80] / 3
    assert worst[320] < 0.005


def test_any_function_will_do():
    x = np.linspace(0, 1, 500)
    assert np.abs(approximate(np.exp, 200)(x) - np.exp(x)).max() < 0.01


@pytest.mark.parametrize("sizes", [[784, 15, 10], [784, 30, 20, 10], [3, 1]])
def test_the_gradients_are_tensorflows(sizes):
    random = np.random.default_rng(0)
    x, y = random.random((sizes[0], 32)), random.random((sizes[-1], 32))
    assert tensorflow_difference(Network(sizes, 1, SquaredError()), x, y) < 1e-5


@pytest.mark.parametrize("cost_", [SquaredError(), CrossEntropy()])
def test_the_gradients_are_the_slopes_of_the_cost(cost_):
    random = np.random.default_rng(0)
    x, y = random.random((4, 8)), random.random((2, 8))
    network = Network([4, 3, 2], 1, cost_)
    dW, db = network.gradients(x, y)
    for layer in (2, 3):
        for value, slope in ((network.W[layer], dW[layer]), (network.b[layer], db[layer])):
            for at in np.ndindex(*value.shape):
                kept, ends = value[at], []
                for step in (1e-5, -1e-5):
                    value[at] = kept + step
                    _, a = network.forward(x)
                    ends.append(cost_.value(a[3], y))
                value[at] = kept
                assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-8)


def test_numpy_reads_nine_digits_of_ten(digits):
    training, test = digits
    network = Network([784, 15, 10], 1, SquaredError())
    for _ in network.train(*rows(training), epochs=1, batch=10, eta=3.0, seed=1):
        pass
    assert network.accuracy(*rows(test)) > 0.9


def test_a_neuron_that_is_badly_wrong_learns_late_by_the_squared_error_alone():
    late, soon = (cost.learn_one(kind, start=2.0, epochs=300, eta=0.15)["output"] for kind in cost.COSTS.values())
    assert late[50] > 0.95
    assert soon[50] < 0.2
    mild_late, mild_soon = (cost.learn_one(kind, 0.6, 300, 0.15)["output"] for kind in cost.COSTS.values())
    assert mild_late[299] < 0.15 > mild_soon[299]


def _keras(layer, image: np.ndarray, kernel: np.ndarray | None = None) -> np.ndarray:
    """What a layer of Keras makes of an image (H, W), its kernel (k, k) set."""
    layer.build((1, *image.shape, 1))
    if kernel is not None:
        layer.set_weights([kernel[..., np.newaxis, np.newaxis]])
    return np.asarray(layer(image[np.newaxis, ..., np.newaxis]))[0, ..., 0]


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_is_keras_convolution(side, dilation):
    import keras

    random = np.random.default_rng(side)
    image, kernel = random.random((12, 15)), random.standard_normal((side, side))
    ours = convolutions.convolve(image, kernel, dilation)
    assert ours.shape == (12 - dilation * (side - 1), 15 - dilation * (side - 1))
    theirs = _keras(keras.layers.Conv2D(1, side, dilation_rate=dilation, use_bias=False), image, kernel)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 2), (2, 3)])
def test_a_transposed_convolution_is_keras(side, stride):
    import keras

    random = np.random.default_rng(side)
    image, kernel = random.random((6, 7)), random.standard_normal((side, side))
    ours = convolutions.transposed(image, kernel, stride)
    theirs = _keras(keras.layers.Conv2DTranspose(1, side, strides=stride, use_bias=False), image, kernel)
    if stride > side:  # Keras pads the gaps up to the next pixel
        theirs = theirs[: ours.shape[0], : ours.shape[1]]
    assert ours.shape == (stride * 5 + side, stride * 6 + side)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_transposed_convolution_is_the_convolutions_slope():
    """Of <convolve(image), other> by image: where its name comes from."""
    random = np.random.default_rng(0)
    image, other, kernel = random.random((9, 9)), random.random((7, 7)), random.random((3, 3))
    left = (convolutions.convolve(image, kernel) * other).sum()
    right = (image * convolutions.transposed(other, kernel, stride=1)).sum()
    assert left == pytest.approx(right)


@pytest.mark.parametrize("kind", ["max", "average", "L2"])
def test_pooling_is_keras_pooling(kind):
    import keras

    from training.digits.nets import named

    image = np.random.default_rng(0).random((10, 13))
    theirs = image[np.newaxis, ..., np.newaxis]
    for entry in convolutions.pooling(kind):
        theirs = named(keras.layers, entry)(theirs)
    np.testing.assert_allclose(convolutions.pool(image, kind), np.asarray(theirs)[0, ..., 0], atol=1e-6)
