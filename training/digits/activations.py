"""Why deep sigmoid nets were hard: the gradient by layer, epoch by epoch, for three activations and two starts."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.digits.lesson import Figures, Trial
from training.parameters import DigitNet, Named
from training.sources.mnist import Digits

WATCHED = 1000  # training digits whose gradient is measured


def layers(activation: str, deviation: float | None, depth: int, width: int) -> list[Named]:
    """`depth` hidden layers; weights from Glorot's distribution, or normal ones of the given deviation."""
    normal = {"class_name": "RandomNormal", "config": {"stddev": deviation}}
    start = normal if deviation else "glorot_uniform"
    hidden: Named = {"Dense": {"units": width, "activation": activation, "kernel_initializer": start}}
    return ["Flatten", *[hidden] * depth, {"Dense": {"units": 10, "activation": "softmax"}}]


def learn(net: DigitNet, training: Digits, test: Digits, seed: int) -> pd.DataFrame:
    """The net's history, with the norm of dC/db^l, the mean delta^l of the watched digits, before each epoch."""
    import keras
    import tensorflow as tf

    from training.digits.nets import history

    x, y = training.first(WATCHED).tensors()
    norms: list[list[float]] = []

    class Gradients(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None) -> None:
            biases = [layer.bias for layer in self.model.layers if hasattr(layer, "bias")]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, self.model(x, training=False)))
            norms.append([float(tf.norm(g)) for g in tape.gradient(loss, [bias.value for bias in biases])])

    curves = history(net, training, test, seed, [Gradients()])
    by_layer = pd.DataFrame(norms, columns=[f"gradient_{layer}" for layer in range(1, len(norms[0]) + 1)])
    return curves.join(by_layer)


def trials(training: Digits, test: Digits, digits: int, seed: int, starts: dict, depth: int, width: int, recipe: dict):
    def trial(start: dict) -> Trial:
        net = DigitNet(layers=layers(**start, depth=depth, width=width), **recipe)
        return Trial({"depth": depth, "width": width, **start}, partial(learn, net, training.first(digits), test, seed))

    return {name: trial(start) for name, start in starts.items()}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """How many times the last hidden layer's gradient the first's is, at the start; the test accuracy in the end."""
    starts = {name: curves.filter(like="gradient_").iloc[0] for name, curves in seen.items()}
    return {
        "first_over_last": {name: float(norms.iloc[0] / norms.iloc[-2]) for name, norms in starts.items()},
        "test_accuracy": {name: float(curves["test_accuracy"].iloc[-1]) for name, curves in seen.items()},
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    axes = figure.subplots(1, len(seen), sharey=True)
    for axis, (name, curves) in zip(axes, seen.items(), strict=True):
        gradients = curves.filter(like="gradient_")
        shades = np.linspace(0.2, 0.9, len(gradients))
        for (epoch, norms), shade in zip(gradients.iterrows(), shades, strict=True):
            at = range(1, len(norms) + 1)
            axis.semilogy(at, norms, "o-", markersize=3, color=(0.1, 0.3, 0.6, shade), label=f"epoch {epoch}")
        accuracy = curves["test_accuracy"].iloc[-1]
        axis.set(title=f"{name}\ntest accuracy {accuracy:.3f}", xlabel="layer")
        if lost := int(gradients.isna().any(axis=1).sum()):
            axis.text(0.5, 0.05, f"no numbers in {lost} epochs", transform=axis.transAxes, ha="center", fontsize=8)
    axes[0].set_ylabel("norm of the gradient")
    axes[0].legend(fontsize=7)
