"""Variations of gradient descent from the same start: the same first weights, the same digits in the same order."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from training.digits.lesson import Figures, Trial
from training.parameters import DigitNet, Named, Phase
from training.sources.mnist import Digits

WAYS: dict[str, Named] = {
    "plain": "SGD",
    "momentum": {"SGD": {"momentum": 0.9}},
    "Nesterov": {"SGD": {"momentum": 0.9, "nesterov": True}},
    "AdaGrad": "Adagrad",
    "RMSprop": "RMSprop",
    "Adam": "Adam",
}


def trials(training: Digits, test: Digits, digits: int, seed: int, learning_rates: list[float], net: dict, epochs: int):
    from training.digits.nets import history

    def trial(way: str, rate: float) -> Trial:
        phases = [Phase(epochs=epochs, learning_rate=rate)]
        varied = DigitNet(**net, optimizer=WAYS[way], phases=phases)
        run = partial(history, varied, training.first(digits), test, seed)
        return Trial({"way": way, "learning_rate": rate, "digits": digits}, run)

    return {f"{way}, {rate:g}": trial(way, rate) for way in WAYS for rate in learning_rates}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """Each way's lowest loss on the training digits, mean of the last epoch, and at which learning rate that was."""
    chosen = best(seen)
    return {
        "loss": {way: float(curves["loss"].iloc[-1]) for way, (_, curves) in chosen.items()},
        "learning_rate": {way: rate for way, (rate, _) in chosen.items()},
    }


def best(seen: dict[str, pd.DataFrame]) -> dict[str, tuple[float, pd.DataFrame]]:
    """For each way the learning rate that ended lowest, and its curves."""
    found: dict[str, tuple[float, pd.DataFrame]] = {}
    for name, curves in seen.items():
        way, rate = name.split(", ")
        if way not in found or curves["loss"].iloc[-1] < found[way][1]["loss"].iloc[-1]:
            found[way] = float(rate), curves
    return found


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    curve, rates = figure.subplots(1, 2)
    for way, (rate, curves) in best(seen).items():
        curve.semilogy(curves.index + 1, curves["loss"], label=f"{way}, {rate:g}")
        ends = {float(name.split(", ")[1]): c["loss"].iloc[-1] for name, c in seen.items() if name.startswith(way)}
        rates.loglog(list(ends), list(ends.values()), "o-", label=way)
    loss = "loss on the training digits, mean of the epoch"
    curve.set(title="each at its best learning rate", xlabel="epoch", ylabel=loss)
    rates.set(title="the last epoch", xlabel="learning rate", ylabel=loss)
    curve.legend(fontsize=8)
