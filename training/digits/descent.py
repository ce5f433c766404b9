"""Variants of gradient descent that start from the same weights and see the same digits in the same order."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits
from training.digits.nets import train_history
from training.digits.trial import Metrics, Results, Trial
from training.workspace.digits_parameters import DigitNet, KerasObject
from training.workspace.nerve_parameters import Phase

VARIANTS: dict[str, KerasObject] = {
    "plain": "SGD",
    "momentum": {"SGD": {"momentum": 0.9}},
    "Nesterov": {"SGD": {"momentum": 0.9, "nesterov": True}},
    "AdaGrad": "Adagrad",
    "RMSprop": "RMSprop",
    "Adam": "Adam",
}


def trials(
    training: Digits, test: Digits, digits: int, seed: int, learning_rates: list[float], net: dict, epochs: int
) -> dict[str, Trial]:

    def trial(variant: str, learning_rate: float) -> Trial:
        phases = [Phase(epochs=epochs, learning_rate=learning_rate)]
        entry = DigitNet(**net, optimizer=VARIANTS[variant], phases=phases)
        run = partial(train_history, entry, training.first(digits), test, seed)
        return Trial({"variant": variant, "learning_rate": learning_rate, "digits": digits}, run)

    return {f"{variant}, {rate:g}": trial(variant, rate) for variant in VARIANTS for rate in learning_rates}


def metrics(results: Results) -> Metrics:
    """Return each variant's lowest loss on the training digits (mean over the last epoch), and its learning rate."""
    best = best_runs(results)
    return {
        "loss": {variant: float(history["loss"].iloc[-1]) for variant, (_, history) in best.items()},
        "learning_rate": {variant: rate for variant, (rate, _) in best.items()},
    }


def best_runs(results: Results) -> dict[str, tuple[float, pd.DataFrame]]:
    """Return for each variant the learning rate with the lowest last loss, and the history of that run."""
    best: dict[str, tuple[float, pd.DataFrame]] = {}
    for name, history in results.items():
        variant, rate = name.split(", ")
        if variant not in best or history["loss"].iloc[-1] < best[variant][1]["loss"].iloc[-1]:
            best[variant] = float(rate), history
    return best


def draw(results: Results, figure: Figure) -> None:
    by_epoch, by_rate = figure.subplots(1, 2)
    for variant, (best_rate, best_history) in best_runs(results).items():
        by_epoch.semilogy(best_history.index + 1, best_history["loss"], label=f"{variant}, {best_rate:g}")
        last_losses = {
            float(name.split(", ")[1]): history["loss"].iloc[-1]
            for name, history in results.items()
            if name.startswith(variant)
        }
        by_rate.loglog(list(last_losses), list(last_losses.values()), "o-", label=variant)
    loss = "loss on the training digits, mean of the epoch"
    by_epoch.set(title="each at its best learning rate", xlabel="epoch", ylabel=loss)
    by_rate.set(title="the last epoch", xlabel="learning rate", ylabel=loss)
    by_epoch.legend(fontsize=8)
