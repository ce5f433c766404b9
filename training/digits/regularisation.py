"""Over-fitting, and what helps: a net with more weights than its few training digits can hold to account."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from training.digits.lesson import Figures, Trial
from training.parameters import DigitNet, Named
from training.sources.mnist import Digits

LAST = 10  # epochs that are averaged for a figure


def layers(hidden: list[int], penalty: dict | None, dropout: float) -> list[Named]:
    """Flatten, then ReLU layers of these widths, each with the penalty and followed by dropout; then the ten."""
    found: list[Named] = ["Flatten"]
    for units in hidden:
        found.append({"Dense": {"units": units, "activation": "relu", "kernel_regularizer": penalty}})
        found += [{"Dropout": {"rate": dropout}}] if dropout else []
    return [*found, {"Dense": {"units": 10, "activation": "softmax"}}]


def trials(training: Digits, test: Digits, digits: int, seed: int, hidden: list[int], kinds: dict, recipe: dict):
    from training.digits.nets import history

    def trial(kind: dict) -> Trial:
        net = DigitNet(layers=layers(hidden, kind.get("penalty"), kind.get("dropout", 0)), **recipe)
        return Trial({"digits": digits, **kind}, partial(history, net, training.first(digits), test, seed))

    return {name: trial(kind) for name, kind in kinds.items()}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """Accuracy on training and test digits, means over the last epochs."""
    return {
        side: {name: float(curves[side].iloc[-LAST:].mean()) for name, curves in seen.items()}
        for side in ("accuracy", "test_accuracy")
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    sides = {"accuracy": "training digits", "test_accuracy": "test digits"}
    for axis, (side, title) in zip(figure.subplots(1, 2), sides.items(), strict=True):
        for name, curves in seen.items():
            axis.plot(curves.index + 1, curves[side].rolling(LAST, min_periods=1).mean(), label=name)
        floor = min(curves[side].iloc[-len(curves) // 2 :].min() for curves in seen.values())
        axis.set(
            title=title,
            xlabel="epoch",
            ylabel=f"accuracy, mean of {LAST} epochs",
            ylim=(floor - 0.002, min(1.002, axis.get_ylim()[1])),
        )
        axis.legend()
