"""Backpropagation and mini-batch gradient descent in NumPy, with the names of the lecture's equations.

Layers count from 1, the input, to L, the output. A batch of m digits is in columns; * multiplies by element:
  a^1 = x,  z^l = W^l a^(l-1) + b^l,  a^l = sigmoid(z^l)
  delta^L = dC/da^L * sigmoid'(z^L)                                           (BP1)
  delta^l = (W^(l+1))^T delta^(l+1) * sigmoid'(z^l)                           (BP2)
  dC/db^l = delta^l                                                           (BP3)
  dC/dW^l = delta^l (a^(l-1))^T                                               (BP4)
Equations: Nielsen, Neural Networks and Deep Learning, chapter 2.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid
from scipy.special import xlogy

from training.data.sources.mnist import Digits
from training.digits.trial import Metrics, Results, Trial

Layers = dict[int, np.ndarray]  # the layer's number -> its array


def sigmoid_prime(z: np.ndarray) -> np.ndarray:
    return sigmoid(z) * (1 - sigmoid(z))


class Cost(Protocol):
    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        """Return C, the mean over the batch."""

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return delta^L = dC/dz^L of each digit (BP1)."""


class SquaredError:
    """C = |a - y|^2 / 2. Where the sigmoid is flat, delta^L is near 0 even if a is far from y."""

    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        return float(((a - y) ** 2).sum(axis=0).mean() / 2)

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (a - y) * sigmoid_prime(z)


class CrossEntropy:
    """C = -(y ln a + (1 - y) ln(1 - a)). Its derivative cancels the sigmoid's, so delta^L is the error a - y itself."""

    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        return float(-(xlogy(y, a) + xlogy(1 - y, 1 - a)).sum(axis=0).mean())

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return a - y


class Network:
    """A network of sigmoid neurons. W[l]: (neurons of l, neurons of l-1), b[l]: (neurons of l, 1), for l = 2..L."""

    def __init__(self, sizes: list[int], seed: int, cost: Cost):
        """Initial weights are normally distributed, divided by the square root of the neuron's number of inputs."""
        draw = np.random.default_rng(seed).standard_normal
        self.L, self.cost = len(sizes), cost
        layer_sizes = dict(enumerate(pairwise(sizes), start=2))
        self.W: Layers = {l: draw((n, m)) / np.sqrt(m) for l, (m, n) in layer_sizes.items()}
        self.b: Layers = {l: draw((n, 1)) for l, (_, n) in layer_sizes.items()}

    def forward(self, x: np.ndarray) -> tuple[Layers, Layers]:
        """Return z and a of each layer, for digits x in columns, float (inputs, m)."""
        z, a = {}, {1: x}
        for l in range(2, self.L + 1):
            z[l] = self.W[l] @ a[l - 1] + self.b[l]
            a[l] = sigmoid(z[l])
        return z, a

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[Layers, Layers]:
        """Return dC/dW and dC/db of each layer, means over digits x (inputs, m) with targets y (outputs, m)."""
        z, a = self.forward(x)
        delta = {self.L: self.cost.delta(z[self.L], a[self.L], y)}
        for l in range(self.L - 1, 1, -1):
            delta[l] = (self.W[l + 1].T @ delta[l + 1]) * sigmoid_prime(z[l])
        m = x.shape[1]  # (BP3) and (BP4), means over the batch
        return {l: delta[l] @ a[l - 1].T / m for l in delta}, {l: delta[l].mean(axis=1, keepdims=True) for l in delta}

    def descend(self, x: np.ndarray, y: np.ndarray, eta: float) -> None:
        """Take one gradient step on a batch."""
        dW, db = self.gradients(x, y)
        for l in self.W:
            self.W[l] -= eta * dW[l]
            self.b[l] -= eta * db[l]

    def train(self, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, eta: float, seed: int) -> Iterator[int]:
        """Train by mini-batch gradient descent on digits in rows, x (N, inputs), y (N, outputs); yield each epoch."""
        random = np.random.default_rng(seed)
        for epoch in range(epochs):
            order = random.permutation(len(x))
            for start in range(0, len(x), batch):
                indices = order[start : start + batch]
                self.descend(x[indices].T, y[indices].T, eta)
            yield epoch

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the share of digits, in rows, whose largest output is the right class."""
        _, a = self.forward(x.T)
        return float((a[self.L].argmax(axis=0) == y.argmax(axis=1)).mean())


def to_rows(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    """Return digits and their one-hot targets in rows: float32 (N, 784) in 0..1 and float32 (N, 10)."""
    images, targets = digits.tensors()
    return images.reshape(len(images), -1), targets


def tensorflow_difference(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest difference between our gradients and TensorFlow's, in float64. The cost is SquaredError."""
    assert isinstance(network.cost, SquaredError)
    W = {l: tf.Variable(network.W[l]) for l in network.W}
    b = {l: tf.Variable(network.b[l]) for l in network.b}
    with tf.GradientTape() as tape:
        a = tf.constant(x, tf.float64)
        for l in W:
            a = tf.sigmoid(W[l] @ a + b[l])
        C = tf.reduce_mean(tf.reduce_sum((a - y) ** 2, axis=0)) / 2
    tensorflow_gradients = tape.gradient(C, [W, b])
    our_gradients = network.gradients(x.astype(np.float64), y)
    pairs = zip(tensorflow_gradients, our_gradients, strict=True)
    return max(float(np.abs(theirs[l] - ours[l]).max()) for theirs, ours in pairs for l in W)


def _train_and_check(
    training: Digits, test: Digits, sizes: list[int], epochs: int, batch: int, eta: float, seed: int
) -> pd.DataFrame:
    """Return accuracies by epoch, and the gradient difference before training.

    attrs["weights"]: of the hidden neurons.
    """
    (x, y), test_rows = to_rows(training), to_rows(test)
    network = Network(sizes, seed, SquaredError())
    table = pd.DataFrame({"gradient_difference": [tensorflow_difference(network, x[:100].T, y[:100].T)]})
    for epoch in network.train(x, y, epochs, batch, eta, seed):
        table.loc[epoch, ["accuracy", "test_accuracy"]] = network.accuracy(x, y), network.accuracy(*test_rows)
    table.attrs["weights"] = network.W[2]
    return table


def trials(
    training: Digits, test: Digits, sizes: list[int], epochs: int, batch: int, eta: float, seed: int
) -> dict[str, Trial]:
    name = "-".join(map(str, sizes))
    parameters = {"sizes": name, "epochs": epochs, "batch_size": batch, "learning_rate": eta, "seed": seed}
    return {name: Trial(parameters, partial(_train_and_check, training, test, sizes, epochs, batch, eta, seed))}


def metrics(results: Results) -> Metrics:
    """Return the final test accuracy, and the largest difference from TensorFlow's gradients before training."""
    rows = {"test_accuracy": -1, "gradient_difference": 0}
    return {
        metric: {name: float(table[metric].iloc[row]) for name, table in results.items()}
        for metric, row in rows.items()
    }


def draw(results: Results, figure: Figure) -> None:
    ((name, table),) = results.items()
    subfigures: Any = figure.subfigures(1, 2, width_ratios=(2, 3))
    left, right = subfigures
    axis = left.subplots()
    axis.plot(table.index + 1, table["accuracy"], label="training digits")
    axis.plot(table.index + 1, table["test_accuracy"], label="test digits")
    axis.set(title=f"{name} in NumPy", xlabel="epoch", ylabel="accuracy")
    axis.legend()
    weights = table.attrs["weights"]
    right.suptitle("weights of the hidden neurons (red is positive, blue is negative)")
    for axis, row in zip(right.subplots(3, -(-len(weights) // 3)).flat, weights, strict=False):
        axis.imshow(row.reshape(28, 28), cmap="RdBu_r", vmin=-np.abs(row).max(), vmax=np.abs(row).max())
    for axis in right.axes:
        axis.set_axis_off()
