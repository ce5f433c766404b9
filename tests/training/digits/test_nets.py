"""The networks of params.yaml equal the lecture's, and they learn."""

import numpy as np
import pytest

from training.digits.nets import augment_digits, build, train, train_history
from training.digits.train import confusion_figure, mistakes_figure, prediction_table
from training.workspace import digits_parameters
from training.workspace.digits_parameters import DigitAugmentation, DigitNet
from training.workspace.parameter_validation import ParameterError

pytestmark = pytest.mark.slow

NESTEROV = {"SGD": {"momentum": 0.9, "nesterov": True}}
LECTURE = {  # weights, batch size, epochs and learning rates by phase, loss, optimizer
    "one_hidden": (11_935, 32, [20], [0.01], "MeanSquaredError", NESTEROV),
    "three_hidden": (
        59_210,
        128,
        [60],
        [0.1],
        "MeanSquaredError",
        NESTEROV,
    ),  # see params.yaml for the rate
    "relu_dropout": (567_434, 128, [20], [0.001], "CategoricalCrossentropy", "RMSprop"),
    "convolutional": (329_962, 32, [10, 10], [0.01, 0.001], "CategoricalCrossentropy", NESTEROV),
}
LAYERS = {  # activations, and dropout rates
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
    "batch_size": 32,
    "phases": [{"epochs": 3, "learning_rate": 0.005}],
}


@pytest.mark.parametrize("name", LECTURE)
def test_the_lectures_networks_have_all_their_numbers(name):
    net = digits_parameters.read_digits_parameters().net(name)
    weights, batch_size, epochs, rates, loss, optimizer = LECTURE[name]
    model = build(net.layers)
    assert model.count_params() == weights
    activations = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
    assert (activations, [layer.rate for layer in model.layers if hasattr(layer, "rate")]) == LAYERS[name]
    assert (net.batch_size, net.loss, net.optimizer) == (batch_size, loss, optimizer)
    assert [phase.epochs for phase in net.phases] == epochs
    assert [phase.learning_rate for phase in net.phases] == rates
    assert (net.augment, net.ema_momentum) == (None, None)


def test_our_network_has_the_number_of_weights_in_its_comment():
    model = build(digits_parameters.read_digits_parameters().net("moved").layers)
    assert (model.count_params(), model.output_shape) == (218_522, (None, 10))


def test_a_small_network_learns_and_the_same_seed_repeats_the_training(digits):
    training, test = digits[0].first(3000), digits[1].first(1000)
    first, second = (train_history(DigitNet(**SMALL), training, test, seed=1) for _ in range(2))
    assert list(first.columns) == ["accuracy", "loss", "test_accuracy", "test_loss", "learning_rate"]
    assert first["test_accuracy"].iloc[-1] > 0.85
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-3)
    one_epoch = SMALL | {"phases": [SMALL["phases"][0] | {"epochs": 1}]}
    other = train_history(DigitNet(**one_epoch), training, test, seed=2)
    assert other["loss"].iloc[0] != first["loss"].iloc[0]


def test_a_network_learns_with_augmentation_and_averaged_weights(digits):
    augment = {"shift": 0.05, "zoom": 0.1, "shear": 0.1, "rotate": 5}
    training, test = digits[0].first(3000), digits[1].first(1000)
    model, history = train(DigitNet(**SMALL | {"augment": augment, "ema_momentum": 0.9}), training, test, seed=1)
    images, targets = test.tensors()
    accuracy = (model.predict(images, verbose=0).argmax(axis=1) == targets.argmax(axis=1)).mean()
    assert accuracy == pytest.approx(history["test_accuracy"].iloc[-1], abs=0.002)
    assert accuracy > 0.7


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"layers": ["Flaten"]}, "Flaten"),
        ({"layers": [{"Dense": {"unit": 3}}]}, "unit"),
        ({"optimizer": "Adamm"}, "Adamm"),
    ],
)
def test_the_error_names_what_keras_does_not_have(digits, change, name):
    with pytest.raises(ParameterError, match=name):
        train(DigitNet(**SMALL | change), digits[0].first(10), digits[1].first(10), seed=1)


def test_the_error_for_an_unknown_network_lists_the_known_ones():
    with pytest.raises(ParameterError, match="one_hidden, three_hidden"):
        digits_parameters.read_digits_parameters().net("lenet")


def test_augmentation_moves_digits_no_further_than_its_limits(digits):
    images, _ = digits[1].first(64).tensors()
    rng = np.random.default_rng(1)
    unchanged = augment_digits(images, DigitAugmentation(shift=0, zoom=0, shear=0, rotate=0), rng)
    np.testing.assert_allclose(unchanged, images, atol=1e-6)
    shifted = augment_digits(images, DigitAugmentation(shift=0.1, zoom=0, shear=0, rotate=0), rng)
    ys, xs = np.mgrid[:28, :28]
    for grid in (ys, xs):
        centres = [(array[..., 0] * grid).sum(axis=(1, 2)) / array.sum(axis=(1, 2, 3)) for array in (images, shifted)]
        assert 0.5 < np.abs(centres[1] - centres[0]).max() <= 2.9  # a tenth of 28
    rotated = augment_digits(images, DigitAugmentation(shift=0, zoom=0, shear=0, rotate=10), rng)
    assert np.abs(rotated.sum(axis=(1, 2, 3)) / images.sum(axis=(1, 2, 3)) - 1).max() < 0.1


def test_the_figures_count_the_mistakes_and_show_the_most_confident_first(digits):
    test = digits[1].first(200)
    probabilities = np.full((200, 10), 0.01)
    probabilities[np.arange(200), test.labels] = 0.9
    probabilities[3] = np.eye(10)[(test.labels[3] + 1) % 10] * 0.7
    probabilities[5] = np.eye(10)[(test.labels[5] + 1) % 10] * 0.8
    predictions = prediction_table(probabilities, test)
    assert (predictions["truth"] != predictions["prediction"]).sum() == 2
    titles = [axis.get_title() for axis in mistakes_figure(predictions, test).axes]
    assert titles[0].endswith("0.800")
    assert titles[1].endswith("0.700")
    assert set(titles[2:]) == {""}
    assert confusion_figure(predictions).axes[0].get_title() == "2 of 200 wrong"
