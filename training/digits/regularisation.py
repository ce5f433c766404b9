"""Over-fitting, and what helps: a net with more weights than its few training digits can hold to account."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from training.digits.lesson import Figures, Trial, by_kind
from training.parameters import DigitNet, Named
from training.sources.mnist import Digits

LAST = 10  # epochs that are averaged for a figure
SIDES = {"training_accuracy": "training digits", "test_accuracy": "test digits"}


def layers(hidden: list[int], penalty: dict | None, dropout: float) -> list[Named]:
    """Flatten, then ReLU layers of these widths, each with the penalty and followed by dropout; then the ten."""
    found: list[Named] = ["Flatten"]
    for units in hidden:
        found.append({"Dense": {"units": units, "activation": "relu", "kernel_regularizer": penalty}})
        found += [{"Dropout": {"rate": dropout}}] if dropout else []
    return [*found, {"Dense": {"units": 10, "activation": "softmax"}}]


def learn(net: DigitNet, training: Digits, test: Digits, seed: int) -> pd.DataFrame:
    """The net's history, with its accuracy on the training digits after each epoch, nothing dropped.

    Keras' own `accuracy` is a mean over the epoch, under dropout of nets that lack neurons.
    """
    import keras

    from training.digits.nets import history

    x, _ = training.tensors()
    reached: list[float] = []

    class Reached(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None) -> None:
            said = keras.ops.convert_to_numpy(self.model(x, training=False)).argmax(axis=1)
            reached.append(float((said == training.labels).mean()))

    return history(net, training, test, seed, [Reached()]).assign(training_accuracy=reached)


def trials(training: Digits, test: Digits, digits: int, seeds: list[int], hidden: list[int], kinds: dict, recipe: dict):
    def trial(kind: dict, seed: int) -> Trial:
        net = DigitNet(layers=layers(hidden, kind.get("penalty"), kind.get("dropout", 0)), **recipe)
        return Trial({"seed": seed, **kind}, partial(learn, net, training.first(digits), test, seed))

    return {f"{name}, seed {seed}": trial(kind, seed) for name, kind in kinds.items() for seed in seeds}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """Accuracy on training and test digits, means over the last epochs and the seeds, and its range over the seeds."""
    found: Figures = {}
    for side in SIDES:
        reached = {kind: [c[side].iloc[-LAST:].mean() for c in by_seed] for kind, by_seed in by_kind(seen).items()}
        found[side] = {kind: float(sum(by_seed) / len(by_seed)) for kind, by_seed in reached.items()}
        found[f"{side}_range"] = {kind: float(max(by_seed) - min(by_seed)) for kind, by_seed in reached.items()}
    return found


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    for axis, (side, title) in zip(figure.subplots(1, 2), SIDES.items(), strict=True):
        means = {
            kind: pd.concat([c[side] for c in by_seed], axis=1).mean(axis=1) for kind, by_seed in by_kind(seen).items()
        }
        for kind, mean in means.items():
            axis.plot(mean.index + 1, mean.rolling(LAST, min_periods=1).mean(), label=kind)
        floor = min(mean.iloc[-len(mean) // 2 :].min() for mean in means.values())
        axis.set(
            title=title,
            xlabel="epoch",
            ylabel=f"accuracy, mean of {LAST} epochs and the seeds",
            ylim=(floor - 0.002, min(1.002, axis.get_ylim()[1])),
        )
        axis.legend()
