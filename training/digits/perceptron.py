"""Perceptrons: weighted evidence against a bias. Gates, circuits of gates, and the sigmoid neuron that softens them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid

from training.digits.lesson import Figures, Trial
from training.sources.mnist import Digits

BITS = (0, 1)
PAIRS = [(a, b) for a in BITS for b in BITS]


@dataclass(frozen=True)
class Perceptron:
    """Says 1 where w·x + b > 0, else 0."""

    w: tuple[float, ...]
    b: float

    def __call__(self, *x: float) -> int:
        return int(np.dot(self.w, x) + self.b > 0)


@dataclass(frozen=True)
class SigmoidNeuron:
    """Says sigmoid(w·x + b), in 0..1: a perceptron whose answer moves a little when its weights do."""

    w: tuple[float, ...]
    b: float

    def __call__(self, *x: float) -> float:
        return float(sigmoid(np.dot(self.w, x) + self.b))


NAND = Perceptron(w=(-2, -2), b=3)  # every circuit can be made of it


def xor(a: int, b: int) -> int:
    """1 where the bits differ: four NANDs."""
    c = NAND(a, b)
    return NAND(NAND(a, c), NAND(b, c))


def add(a: int, b: int) -> tuple[int, int]:
    """The sum of two bits and its carry: five NANDs, one of them shared."""
    c = NAND(a, b)
    return NAND(NAND(a, c), NAND(b, c)), NAND(c, c)


def softened(factor: float) -> SigmoidNeuron:
    """The sigmoid neuron with NAND's weights and bias, all times `factor`."""
    return SigmoidNeuron(tuple(factor * w for w in NAND.w), factor * NAND.b)


def distance(factor: float) -> pd.DataFrame:
    """How far the softened NAND is from NAND, at its worst over the four inputs.

    Of others, those where -2a - 2b + 3 is 0 stay at 0.5, whatever the factor.
    """
    worst = max(abs(softened(factor)(*pair) - NAND(*pair)) for pair in PAIRS)
    return pd.DataFrame({"distance": [worst]})


def trials(training: Digits, test: Digits, factors: list[float]) -> dict[str, Trial]:
    return {f"weights x {factor:g}": Trial({"factor": factor}, partial(distance, factor)) for factor in factors}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """How far the sigmoid neuron is from the perceptron, by factor."""
    return {"distance": {name: float(curves["distance"].iloc[-1]) for name, curves in seen.items()}}


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    plane, table, curves = figure.subplots(1, 3)
    plane.plot([0, 1.5], [1.5, 0], color="grey")  # where -2a - 2b + 3 = 0
    for a, b in PAIRS:
        plane.scatter(a, b, s=90, color="black", facecolor="black" if NAND(a, b) else "white", zorder=2)
    plane.set(title="NAND: filled says 1", xlabel="a", ylabel="b", xlim=(-0.3, 1.7), ylim=(-0.3, 1.7))
    plane.text(0.1, 0.85, "-2a - 2b + 3 = 0", rotation=-45, color="grey")

    rows = [[a, b, NAND(a, b), xor(a, b), add(a, b)[1], add(a, b)[0]] for a, b in PAIRS]
    cells = table.table(rows, colLabels=["a", "b", "NAND", "XOR", "carry", "sum"], loc="center", cellLoc="center")
    cells.scale(1, 1.8)
    table.set_title("circuits of NANDs alone")
    table.set_axis_off()

    inputs = np.linspace(0, 3, 400)
    for factor in (float(name.split()[-1]) for name in seen):
        curves.plot(inputs, [softened(factor)(both / 2, both / 2) for both in inputs], label=f"weights x {factor:g}")
    curves.plot(inputs, [NAND(both / 2, both / 2) for both in inputs], "k--", label="perceptron")
    curves.set(title="sigmoid neuron and perceptron", xlabel="a + b", ylabel="output")
    curves.legend(fontsize=8)
