"""Squared error and cross-entropy: with squared error, a sigmoid neuron that starts badly wrong learns late."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits
from training.digits.backpropagation import Cost, CrossEntropy, Network, SquaredError, to_rows
from training.digits.trial import Metrics, Results, Trial

BATCH_SIZE = 10
COSTS: dict[str, Cost] = {"squared error": SquaredError(), "cross-entropy": CrossEntropy()}


def train_neuron(cost: Cost, start: float, epochs: int, eta: float) -> pd.DataFrame:
    """Train one neuron, with weight and bias `start`, to map 1 to 0: its output before each epoch."""
    network = Network([1, 1], 0, cost)
    network.W[2][:] = network.b[2][:] = start
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    outputs = []
    for _ in range(epochs):
        outputs.append(float(network.forward(x)[1][2][0, 0]))
        network.descend(x, y, eta)
    return pd.DataFrame({"output": outputs})


def train_net(
    training: Digits, test: Digits, cost: Cost, digits: int, bias: float, epochs: int, eta: float, seed: int
) -> pd.DataFrame:
    """Train a network of 784, 30 and 10 neurons: its test accuracy before each epoch and at the end.

    bias: of the ten outputs at the start; a large bias makes them all start near 1.
    """
    x, y = to_rows(training.first(digits))
    network = Network([784, 30, 10], seed, cost)
    network.b[3][:] = bias
    test_rows = to_rows(test)
    accuracies = [network.accuracy(*test_rows)]
    accuracies += [network.accuracy(*test_rows) for _ in network.train(x, y, epochs, BATCH_SIZE, eta, seed)]
    return pd.DataFrame({"test_accuracy": accuracies})


def trials(training: Digits, test: Digits, neuron: dict, net: dict) -> dict[str, Trial]:
    neurons = {f"neuron, {name}": Trial(neuron, partial(train_neuron, cost, **neuron)) for name, cost in COSTS.items()}
    nets = {f"net, {name}": Trial(net, partial(train_net, training, test, cost, **net)) for name, cost in COSTS.items()}
    return neurons | nets


def metrics(results: Results) -> Metrics:
    """Return the epochs until the neuron's output is below 0.5, and the network's first and last test accuracy."""
    outputs = {cost: results[f"neuron, {cost}"]["output"] for cost in COSTS}
    accuracies = {cost: results[f"net, {cost}"]["test_accuracy"] for cost in COSTS}
    return {
        "epochs_to_half": {cost: float((output >= 0.5).sum()) for cost, output in outputs.items()},
        "test_accuracy_after_1": {cost: float(accuracy.iloc[1]) for cost, accuracy in accuracies.items()},
        "test_accuracy": {cost: float(accuracy.iloc[-1]) for cost, accuracy in accuracies.items()},
    }


def draw(results: Results, figure: Figure) -> None:
    neurons, nets = figure.subplots(1, 2)
    for cost in COSTS:
        neurons.plot(results[f"neuron, {cost}"]["output"], label=cost)
        nets.plot(results[f"net, {cost}"]["test_accuracy"], "o-", label=cost)
    neurons.set(title="one neuron that starts badly wrong", xlabel="epoch", ylabel="output (0 is right)", ylim=(0, 1))
    nets.set(title="a net whose outputs all start near 1", xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
    neurons.legend()
    nets.legend()
