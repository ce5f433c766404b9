"""Backpropagation and mini-batch descent, written out as the lecture's equations name them.

Layers count from 1, the input, to L, the output. A batch of m digits stands in columns; * is by element:
  a^1 = x,  z^l = W^l a^(l-1) + b^l,  a^l = sigmoid(z^l)
  delta^L = dC/da^L * sigmoid'(z^L)                                           (BP1)
  delta^l = (W^(l+1))^T delta^(l+1) * sigmoid'(z^l)                           (BP2)
  dC/db^l = delta^l                                                           (BP3)
  dC/dW^l = delta^l (a^(l-1))^T                                               (BP4)
Equations: Nielsen, Neural Networks and Deep Learning, chapter 2.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid
from scipy.special import xlogy

from training.digits.lesson import Figures, Trial
from training.sources.mnist import Digits

Layers = dict[int, np.ndarray]  # one array a layer, by the layer's number


def sigmoid_prime(z: np.ndarray) -> np.ndarray:
    return sigmoid(z) * (1 - sigmoid(z))


class Cost(Protocol):
    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        """C, a mean over the batch."""

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """delta^L = dC/dz^L of every digit (BP1)."""


class SquaredError:
    """C = |a - y|^2 / 2: where sigmoid is flat, delta^L is near 0 however wrong a is."""

    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        return float(((a - y) ** 2).sum(axis=0).mean() / 2)

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (a - y) * sigmoid_prime(z)


class CrossEntropy:
    """C = -(y ln a + (1 - y) ln(1 - a)): its slope cancels sigmoid's, so that delta^L is the error itself."""

    def value(self, a: np.ndarray, y: np.ndarray) -> float:
        return float(-(xlogy(y, a) + xlogy(1 - y, 1 - a)).sum(axis=0).mean())

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return a - y


class Network:
    """A net of sigmoid neurons. W[l]: (neurons of l, neurons of l-1), b[l]: (neurons of l, 1), for l = 2..L."""

    def __init__(self, sizes: list[int], seed: int, cost: Cost):
        """Weights start from a normal distribution, divided by the root of what a neuron takes in."""
        draw = np.random.default_rng(seed).standard_normal
        self.L, self.cost = len(sizes), cost
        before = dict(enumerate(pairwise(sizes), start=2))
        self.W: Layers = {l: draw((n, m)) / np.sqrt(m) for l, (m, n) in before.items()}
        self.b: Layers = {l: draw((n, 1)) for l, (_, n) in before.items()}

    def forward(self, x: np.ndarray) -> tuple[Layers, Layers]:
        """z and a of every layer for digits x in columns, float (inputs, m)."""
        z, a = {}, {1: x}
        for l in range(2, self.L + 1):
            z[l] = self.W[l] @ a[l - 1] + self.b[l]
            a[l] = sigmoid(z[l])
        return z, a

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[Layers, Layers]:
        """dC/dW and dC/db of every layer, means over digits x (inputs, m) with answers y (outputs, m)."""
        z, a = self.forward(x)
        delta = {self.L: self.cost.delta(z[self.L], a[self.L], y)}
        for l in range(self.L - 1, 1, -1):
            delta[l] = (self.W[l + 1].T @ delta[l + 1]) * sigmoid_prime(z[l])
        m = x.shape[1]  # (BP3) and (BP4), means over the batch
        return {l: delta[l] @ a[l - 1].T / m for l in delta}, {l: delta[l].mean(axis=1, keepdims=True) for l in delta}

    def descend(self, x: np.ndarray, y: np.ndarray, eta: float) -> None:
        """One step against the gradient of a batch."""
        dW, db = self.gradients(x, y)
        for l in self.W:
            self.W[l] -= eta * dW[l]
            self.b[l] -= eta * db[l]

    def train(self, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, eta: float, seed: int) -> Iterator[int]:
        """Mini-batch descent over digits in rows, x (N, inputs) and y (N, outputs); yields after every epoch."""
        random = np.random.default_rng(seed)
        for epoch in range(epochs):
            order = random.permutation(len(x))
            for start in range(0, len(x), batch):
                chosen = order[start : start + batch]
                self.descend(x[chosen].T, y[chosen].T, eta)
            yield epoch

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """The share of digits in rows whose strongest output is the right one."""
        _, a = self.forward(x.T)
        return float((a[self.L].argmax(axis=0) == y.argmax(axis=1)).mean())


def rows(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    """Digits and their answers in rows: float32 (N, 784) in 0..1 and (N, 10)."""
    images, answers = digits.tensors()
    return images.reshape(len(images), -1), answers


def tensorflow_difference(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """The largest difference between our gradients and TensorFlow's, in float64; the network's is the squared error."""
    import tensorflow as tf

    assert isinstance(network.cost, SquaredError)
    W = {l: tf.Variable(network.W[l]) for l in network.W}
    b = {l: tf.Variable(network.b[l]) for l in network.b}
    with tf.GradientTape() as tape:
        a = tf.constant(x, tf.float64)
        for l in W:
            a = tf.sigmoid(W[l] @ a + b[l])
        C = tf.reduce_mean(tf.reduce_sum((a - y) ** 2, axis=0)) / 2
    theirs = tape.gradient(C, [W, b])
    ours = network.gradients(x.astype(np.float64), y)
    return max(float(np.abs(t[l] - o[l]).max()) for t, o in zip(theirs, ours, strict=True) for l in W)


def _learn(training: Digits, test: Digits, sizes: list[int], epochs: int, batch: int, eta: float, seed: int):
    (x, y), tested = rows(training), rows(test)
    network = Network(sizes, seed, SquaredError())
    curves = pd.DataFrame({"gradient_difference": [tensorflow_difference(network, x[:100].T, y[:100].T)]})
    for epoch in network.train(x, y, epochs, batch, eta, seed):
        curves.loc[epoch, ["accuracy", "test_accuracy"]] = network.accuracy(x, y), network.accuracy(*tested)
    curves.attrs["weights"] = network.W[2]
    return curves


def trials(training: Digits, test: Digits, sizes: list[int], epochs: int, batch: int, eta: float, seed: int):
    name = "-".join(map(str, sizes))
    varied = {"sizes": name, "epochs": epochs, "batch": batch, "learning_rate": eta, "seed": seed}
    return {name: Trial(varied, lambda: _learn(training, test, sizes, epochs, batch, eta, seed))}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """The test accuracy in the end, and the largest difference from TensorFlow's gradients at the start."""
    ends = {"test_accuracy": -1, "gradient_difference": 0}
    return {
        figure: {name: float(curves[figure].iloc[end]) for name, curves in seen.items()} for figure, end in ends.items()
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    ((name, curves),) = seen.items()
    parts: Any = figure.subfigures(1, 2, width_ratios=(2, 3))
    left, right = parts
    axis = left.subplots()
    axis.plot(curves.index + 1, curves["accuracy"], label="training digits")
    axis.plot(curves.index + 1, curves["test_accuracy"], label="test digits")
    axis.set(title=f"{name} in NumPy", xlabel="epoch", ylabel="accuracy")
    axis.legend()
    weights = curves.attrs["weights"]
    right.suptitle("what the hidden neurons look for (red for, blue against)")
    for axis, row in zip(right.subplots(3, -(-len(weights) // 3)).flat, weights, strict=False):
        axis.imshow(row.reshape(28, 28), cmap="RdBu_r", vmin=-np.abs(row).max(), vmax=np.abs(row).max())
    for axis in right.axes:
        axis.set_axis_off()
