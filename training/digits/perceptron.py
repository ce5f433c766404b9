"""Perceptrons: a weighted sum of inputs compared with a bias. Gates, circuits of gates, and the sigmoid neuron."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid

from training.data.sources.mnist import Digits
from training.digits.trial import Metrics, Results, Trial

BITS = (0, 1)
PAIRS = [(a, b) for a in BITS for b in BITS]


@dataclass(frozen=True)
class Perceptron:
    """Returns 1 where w·x + b > 0, else 0."""

    w: tuple[float, ...]
    b: float

    def __call__(self, *x: float) -> int:
        return int(np.dot(self.w, x) + self.b > 0)


@dataclass(frozen=True)
class SigmoidNeuron:
    """Returns sigmoid(w·x + b), in 0..1. A small change of the weights makes a small change of the output."""

    w: tuple[float, ...]
    b: float

    def __call__(self, *x: float) -> float:
        return float(sigmoid(np.dot(self.w, x) + self.b))


NAND = Perceptron(w=(-2, -2), b=3)  # every circuit can be built from NAND gates


def xor(a: int, b: int) -> int:
    """Return 1 where the bits differ: a circuit of four NANDs."""
    c = NAND(a, b)
    return NAND(NAND(a, c), NAND(b, c))


def add(a: int, b: int) -> tuple[int, int]:
    """Return the sum of two bits and its carry: a circuit of five NANDs that share one."""
    c = NAND(a, b)
    return NAND(NAND(a, c), NAND(b, c)), NAND(c, c)


def sigmoid_nand(factor: float) -> SigmoidNeuron:
    """Return the sigmoid neuron with NAND's weights and bias, all multiplied by `factor`."""
    return SigmoidNeuron(tuple(factor * w for w in NAND.w), factor * NAND.b)


def largest_distance(factor: float) -> pd.DataFrame:
    """Return the largest difference between the sigmoid NAND and NAND over the four pairs of bits.

    On real-valued inputs with -2a - 2b + 3 = 0, the sigmoid neuron returns 0.5 with every factor.
    """
    distance = max(abs(sigmoid_nand(factor)(*pair) - NAND(*pair)) for pair in PAIRS)
    return pd.DataFrame({"distance": [distance]})


def trials(training: Digits, test: Digits, factors: list[float]) -> dict[str, Trial]:
    return {f"weights x {factor:g}": Trial({"factor": factor}, partial(largest_distance, factor)) for factor in factors}


def metrics(results: Results) -> Metrics:
    """Return the largest difference between the sigmoid neuron and the perceptron, by factor."""
    return {"distance": {name: float(table["distance"].iloc[-1]) for name, table in results.items()}}


def draw(results: Results, figure: Figure) -> None:
    plane, truth_table, curves = figure.subplots(1, 3)
    plane.plot([0, 1.5], [1.5, 0], color="grey")  # where -2a - 2b + 3 = 0
    for a, b in PAIRS:
        plane.scatter(a, b, s=90, color="black", facecolor="black" if NAND(a, b) else "white", zorder=2)
    plane.set(title="NAND: filled points are 1", xlabel="a", ylabel="b", xlim=(-0.3, 1.7), ylim=(-0.3, 1.7))
    plane.text(0.1, 0.85, "-2a - 2b + 3 = 0", rotation=-45, color="grey")

    rows = [[a, b, NAND(a, b), xor(a, b), add(a, b)[1], add(a, b)[0]] for a, b in PAIRS]
    cells = truth_table.table(rows, colLabels=["a", "b", "NAND", "XOR", "carry", "sum"], loc="center", cellLoc="center")
    cells.scale(1, 1.8)
    truth_table.set_title("circuits of NANDs only")
    truth_table.set_axis_off()

    sums = np.linspace(0, 3, 400)
    for factor in (float(name.split()[-1]) for name in results):
        neuron = sigmoid_nand(factor)
        curves.plot(sums, [neuron(total / 2, total / 2) for total in sums], label=f"weights x {factor:g}")
    curves.plot(sums, [NAND(total / 2, total / 2) for total in sums], "k--", label="perceptron")
    curves.set(title="sigmoid neuron and perceptron", xlabel="a + b", ylabel="output")
    curves.legend(fontsize=8)
