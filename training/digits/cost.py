"""Squared error against cross-entropy: a sigmoid neuron that starts badly wrong hardly learns from the first."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.digits.backpropagation import Cost, CrossEntropy, Network, SquaredError, rows
from training.digits.lesson import Figures, Trial
from training.sources.mnist import Digits

BATCH = 10
COSTS: dict[str, Cost] = {"squared error": SquaredError(), "cross-entropy": CrossEntropy()}


def learn_one(cost: Cost, start: float, epochs: int, eta: float) -> pd.DataFrame:
    """One neuron with weight and bias `start` learns to answer 0 to 1: its output before each epoch."""
    network = Network([1, 1], 0, cost)
    network.W[2][:] = network.b[2][:] = start
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    outputs = []
    for _ in range(epochs):
        outputs.append(float(network.forward(x)[1][2][0, 0]))
        network.descend(x, y, eta)
    return pd.DataFrame({"output": outputs})


def learn_digits(
    training: Digits, test: Digits, cost: Cost, digits: int, bias: float, epochs: int, eta: float, seed: int
) -> pd.DataFrame:
    """784-30-10 whose ten outputs all start near 1, by the bias: the test accuracy before each epoch and at the end."""
    x, y = rows(training.first(digits))
    network = Network([784, 30, 10], seed, cost)
    network.b[3][:] = bias
    tested = rows(test)
    seen = [network.accuracy(*tested)]
    seen += [network.accuracy(*tested) for _ in network.train(x, y, epochs, BATCH, eta, seed)]
    return pd.DataFrame({"test_accuracy": seen})


def trials(training: Digits, test: Digits, neuron: dict, net: dict) -> dict[str, Trial]:
    one = {f"neuron, {name}": Trial(neuron, partial(learn_one, cost, **neuron)) for name, cost in COSTS.items()}
    all_ten = partial(learn_digits, training, test)
    return one | {f"net, {name}": Trial(net, partial(all_ten, cost, **net)) for name, cost in COSTS.items()}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """Epochs until the neuron's output is below 0.5; the net's test accuracy after one epoch and in the end."""
    outputs = {cost: seen[f"neuron, {cost}"]["output"] for cost in COSTS}
    accuracies = {cost: seen[f"net, {cost}"]["test_accuracy"] for cost in COSTS}
    return {
        "epochs_to_half": {cost: float((output >= 0.5).sum()) for cost, output in outputs.items()},
        "test_accuracy_after_1": {cost: float(accuracy.iloc[1]) for cost, accuracy in accuracies.items()},
        "test_accuracy": {cost: float(accuracy.iloc[-1]) for cost, accuracy in accuracies.items()},
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    one, many = figure.subplots(1, 2)
    for name, curves in seen.items():
        kind, cost = name.split(", ")
        if kind == "neuron":
            one.plot(curves["output"], label=cost)
        else:
            many.plot(curves["test_accuracy"], "o-", label=cost)
    one.set(title="one neuron that starts badly wrong", xlabel="epoch", ylabel="output (0 is right)", ylim=(0, 1))
    many.set(title="a net whose outputs all start near 1", xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
    one.legend()
    many.legend()
