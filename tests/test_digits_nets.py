"""The nets of params.yaml are the lecture's, and train."""

import numpy as np
import pytest

from training import parameters
from training.parameters import DigitNet, Move, ParameterError

NESTEROV = {"SGD": {"momentum": 0.9, "nesterov": True}}
LECTURE = {  # weights, batch, epochs and first learning rates, loss, optimizer
    "one_hidden": (11_935, 32, [20], [0.01], "MeanSquaredError", NESTEROV),
    "three_hidden": (59_210, 128, [60], [0.1], "MeanSquaredError", NESTEROV),  # the lower rate was never compiled in
    "relu_dropout": (567_434, 128, [20], [0.001], "CategoricalCrossentropy", "RMSprop"),
    "convolutional": (329_962, 32, [10, 10], [0.01, 0.001], "CategoricalCrossentropy", NESTEROV),
}
BETWEEN = {  # activations, and the rates of dropout
    "one_hidden": (["sigmoid", "softmax"], []),
    "three_hidden": (["sigmoid"] * 3 + ["softmax"], []),
    "relu_dropout": (["relu"] * 3 + ["softmax"], [0.4] * 3),
    "convolutional": (["relu"] * 5 + ["softmax"], [0.25, 0.25, 0.5]),
}
SMALL = {
    "layers": [
        "Flatten",
        {"Dense": {"units": 32, "activation": "relu"}},
        {"Dense": {"units": 10, "activation": "softmax"}},
    ],
    "loss": "CategoricalCrossentropy",
    "optimizer": "Adam",
    "batch": 32,
    "phases": [{"epochs": 3, "learning_rate": 0.005}],
}


@pytest.mark.parametrize("name", LECTURE)
def test_the_lectures_nets_are_kept_number_for_number(name):
    from training.digits.nets import build

    net = parameters.digits().net(name)
    weights, batch, epochs, rates, loss, optimizer = LECTURE[name]
    model = build(net.layers)
    assert model.count_params() == weights
    activations = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
    assert (activations, [layer.rate for layer in model.layers if hasattr(layer, "rate")]) == BETWEEN[name]
    assert (net.batch, net.loss, net.optimizer) == (batch, loss, optimizer)
    assert [phase.epochs for phase in net.phases] == epochs
    assert [phase.learning_rate for phase in net.phases] == rates
    assert (net.augment, net.average) == (None, None)


def test_our_net_is_what_its_comment_says():
    from training.digits.nets import build

    model = build(parameters.digits().net("moved").layers)
    assert (model.count_params(), model.output_shape) == (218_522, (None, 10))


def test_a_small_net_learns_and_the_same_seed_learns_the_same(digits):
    from training.digits.nets import history

    training, test = digits[0].first(3000), digits[1].first(1000)
    first, second = (history(DigitNet(**SMALL), training, test, seed=1) for _ in range(2))
    assert list(first.columns) == ["accuracy", "loss", "test_accuracy", "test_loss", "learning_rate"]
    assert first["test_accuracy"].iloc[-1] > 0.85
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-3)
    other = history(DigitNet(**SMALL), training, test, seed=2)
    assert other["loss"].iloc[-1] != first["loss"].iloc[-1]


def test_moved_digits_and_averaged_weights_learn_too(digits):
    from training.digits.nets import train

    move = {"shift": 0.05, "zoom": 0.1, "shear": 0.1, "rotate": 5}
    training, test = digits[0].first(3000), digits[1].first(1000)
    model, history = train(DigitNet(**SMALL | {"augment": move, "average": 0.9}), training, test, seed=1)
    images, answers = test.tensors()
    reached = (model.predict(images, verbose=0).argmax(axis=1) == answers.argmax(axis=1)).mean()
    assert reached == pytest.approx(history["test_accuracy"].iloc[-1], abs=0.002)
    assert reached > 0.7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": ["Flaten"]}, "Flaten"),
        ({"layers": [{"Dense": {"unit": 3}}]}, "unit"),
        ({"optimizer": "Adamm"}, "Adamm"),
    ],
)
def test_what_keras_does_not_know_is_named(digits, change, named):
    from training.digits.nets import train

    with pytest.raises(ParameterError, match=named):
        train(DigitNet(**SMALL | change), digits[0].first(10), digits[1].first(10), seed=1)


def test_an_unknown_net_is_an_error_that_lists_the_known():
    with pytest.raises(ParameterError, match="one_hidden, three_hidden"):
        parameters.digits().net("lenet")


def test_a_digit_that_is_not_moved_stays_and_a_moved_one_stays_a_digit(digits):
    from training.digits.nets import moved

    images, _ = digits[1].first(64).tensors()
    random = np.random.default_rng(1)
    still = moved(images, Move(shift=0, zoom=0, shear=0, rotate=0), random)
    np.testing.assert_allclose(still, images, atol=1e-6)
    shifted = moved(images, Move(shift=0.1, zoom=0, shear=0, rotate=0), random)
    ys, xs = np.mgrid[:28, :28]
    for grid in (ys, xs):
        centres = [(array[..., 0] * grid).sum(axis=(1, 2)) / array.sum(axis=(1, 2, 3)) for array in (images, shifted)]
        assert 0.5 < np.abs(centres[1] - centres[0]).max() <= 2.9  # a tenth of 28
    turned = moved(images, Move(shift=0, zoom=0, shear=0, rotate=10), random)
    assert np.abs(turned.sum(axis=(1, 2, 3)) / images.sum(axis=(1, 2, 3)) - 1).max() < 0.1


def test_predictions_and_their_sheet_name_the_surest_mistakes_first(digits):
    from training.digits.train import confusion, mistakes, predictions

    test = digits[1].first(200)
    probabilities = np.full((200, 10), 0.01)
    probabilities[np.arange(200), test.labels] = 0.9
    probabilities[3] = np.eye(10)[(test.labels[3] + 1) % 10] * 0.7
    probabilities[5] = np.eye(10)[(test.labels[5] + 1) % 10] * 0.8
    seen = predictions(probabilities, test)
    assert (seen["truth"] != seen["prediction"]).sum() == 2
    titles = [axis.get_title() for axis in mistakes(seen, test).axes]
    assert titles[0].endswith("0.800")
    assert titles[1].endswith("0.700")
    assert set(titles[2:]) == {""}
    assert confusion(seen).axes[0].get_title() == "2 of 200 wrong"
