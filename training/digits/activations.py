"""Why deep sigmoid networks were hard to train: the gradient of each layer, by epoch, for several activations."""

from functools import partial

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits
from training.digits.nets import train_history
from training.digits.trial import Metrics, Results, Trial
from training.workspace.digits_parameters import DigitNet, KerasObject

MEASURED_DIGITS = 1000  # training digits on which the gradient is measured


def layers(activation: str, deviation: float | None, depth: int, width: int) -> list[KerasObject]:
    """Return `depth` hidden layers and ten outputs.

    deviation: the standard deviation of normally distributed initial weights; None initialises by Glorot and Bengio
    (2010).
    """
    normal = {"class_name": "RandomNormal", "config": {"stddev": deviation}}
    initializer = normal if deviation else "glorot_uniform"
    hidden: KerasObject = {"Dense": {"units": width, "activation": activation, "kernel_initializer": initializer}}
    return ["Flatten", *[hidden] * depth, {"Dense": {"units": 10, "activation": "softmax"}}]


def train_with_gradients(net: DigitNet, training: Digits, test: Digits, seed: int) -> pd.DataFrame:
    """Return the training history. Columns gradient_1, ...: the norm of dC/db^l of each layer l before each epoch.

    dC/db^l is the mean of delta^l over the measured digits.
    """
    x, y = training.first(MEASURED_DIGITS).tensors()
    norms: list[list[float]] = []

    class GradientNorms(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None) -> None:
            biases = [layer.bias for layer in self.model.layers if hasattr(layer, "bias")]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, self.model(x, training=False)))
            norms.append([float(tf.norm(g)) for g in tape.gradient(loss, [bias.value for bias in biases])])

    history = train_history(net, training, test, seed, [GradientNorms()])
    by_layer = pd.DataFrame(norms, columns=[f"gradient_{layer}" for layer in range(1, len(norms[0]) + 1)])
    return history.join(by_layer)


def trials(
    training: Digits, test: Digits, digits: int, seed: int, starts: dict, depth: int, width: int, recipe: dict
) -> dict[str, Trial]:
    def trial(start: dict) -> Trial:
        net = DigitNet(layers=layers(**start, depth=depth, width=width), **recipe)
        run = partial(train_with_gradients, net, training.first(digits), test, seed)
        return Trial({"depth": depth, "width": width, **start}, run)

    return {name: trial(start) for name, start in starts.items()}


def metrics(results: Results) -> Metrics:
    """Return the first hidden layer's gradient over the last one's, before training, and the final test accuracy."""
    initial = {name: table.filter(like="gradient_").iloc[0] for name, table in results.items()}
    return {
        "first_over_last": {name: float(norms.iloc[0] / norms.iloc[-2]) for name, norms in initial.items()},
        "test_accuracy": {name: float(table["test_accuracy"].iloc[-1]) for name, table in results.items()},
    }


def draw(results: Results, figure: Figure) -> None:
    axes = figure.subplots(1, len(results), sharey=True)
    for axis, (name, table) in zip(axes, results.items(), strict=True):
        gradients = table.filter(like="gradient_")
        opacities = np.linspace(0.2, 0.9, len(gradients))
        for (epoch, norms), opacity in zip(gradients.iterrows(), opacities, strict=True):
            numbers = range(1, len(norms) + 1)
            axis.semilogy(numbers, norms, "o-", markersize=3, color=(0.1, 0.3, 0.6, opacity), label=f"epoch {epoch}")
        accuracy = table["test_accuracy"].iloc[-1]
        axis.set(title=f"{name}\ntest accuracy {accuracy:.3f}", xlabel="layer")
        if nan_epochs := int(gradients.isna().any(axis=1).sum()):
            note = f"not a number in {nan_epochs} epochs"
            axis.text(0.5, 0.05, note, transform=axis.transAxes, ha="center", fontsize=8)
    axes[0].set_ylabel("norm of the gradient")
    axes[0].legend(fontsize=7)
