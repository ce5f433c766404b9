"""Overfitting, and methods against it, in a network with many more weights than training digits."""

from functools import partial

import keras
import pandas as pd
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits
from training.digits.nets import train_history
from training.digits.trial import Metrics, Results, Trial, group_by_kind
from training.workspace.digits_parameters import DigitNet, KerasObject

AVERAGED_EPOCHS = 10  # the last ones, averaged for a metric
ACCURACIES = {"training_accuracy": "training digits", "test_accuracy": "test digits"}


def layers(hidden: list[int], penalty: dict | None, dropout: float) -> list[KerasObject]:
    """Return Flatten, ReLU layers of the `hidden` widths, and ten outputs.

    Each ReLU layer has the penalty on its weights, and dropout after it.
    """
    entries: list[KerasObject] = ["Flatten"]
    for units in hidden:
        entries.append({"Dense": {"units": units, "activation": "relu", "kernel_regularizer": penalty}})
        entries += [{"Dropout": {"rate": dropout}}] if dropout else []
    return [*entries, {"Dense": {"units": 10, "activation": "softmax"}}]


def train_with_accuracy(net: DigitNet, training: Digits, test: Digits, seed: int) -> pd.DataFrame:
    """Return the training history, with the accuracy on the training digits after each epoch, without dropout.

    Keras' own `accuracy` is a mean over the epoch, of the network with dropout.
    """
    images, _ = training.tensors()
    accuracies: list[float] = []

    class TrainingAccuracy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None) -> None:
            predictions = keras.ops.convert_to_numpy(self.model(images, training=False)).argmax(axis=1)
            accuracies.append(float((predictions == training.labels).mean()))

    return train_history(net, training, test, seed, [TrainingAccuracy()]).assign(training_accuracy=accuracies)


def trials(
    training: Digits, test: Digits, digits: int, seeds: list[int], hidden: list[int], kinds: dict, recipe: dict
) -> dict[str, Trial]:
    def trial(kind: dict, seed: int) -> Trial:
        net = DigitNet(layers=layers(hidden, kind.get("penalty"), kind.get("dropout", 0)), **recipe)
        return Trial({"seed": seed, **kind}, partial(train_with_accuracy, net, training.first(digits), test, seed))

    return {f"{name}, seed {seed}": trial(kind, seed) for name, kind in kinds.items() for seed in seeds}


def metrics(results: Results) -> Metrics:
    """Return the accuracy on training and test digits: the mean over last epochs and seeds, and the range of seeds."""
    groups = group_by_kind(results)
    summary: Metrics = {}
    for column in ACCURACIES:
        by_seed = {kind: [h[column].iloc[-AVERAGED_EPOCHS:].mean() for h in group] for kind, group in groups.items()}
        summary[column] = {kind: float(sum(values) / len(values)) for kind, values in by_seed.items()}
        summary[f"{column}_range"] = {kind: float(max(values) - min(values)) for kind, values in by_seed.items()}
    return summary


def draw(results: Results, figure: Figure) -> None:
    groups = group_by_kind(results)
    for axis, (column, title) in zip(figure.subplots(1, 2), ACCURACIES.items(), strict=True):
        means = {kind: pd.concat([h[column] for h in group], axis=1).mean(axis=1) for kind, group in groups.items()}
        for kind, mean in means.items():
            axis.plot(mean.index + 1, mean.rolling(AVERAGED_EPOCHS, min_periods=1).mean(), label=kind)
        lowest = min(mean.iloc[-len(mean) // 2 :].min() for mean in means.values())
        axis.set(
            title=title,
            xlabel="epoch",
            ylabel=f"accuracy, mean of {AVERAGED_EPOCHS} epochs and the seeds",
            ylim=(lowest - 0.002, min(1.002, axis.get_ylim()[1])),
        )
        axis.legend()
