"""Universality: a net with one hidden layer of sigmoid neurons comes as near to a function as it is wide."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid

from training.digits.lesson import Figures, Trial
from training.sources.mnist import Digits

INPUTS = np.linspace(0, 1, 2001)
STEEPNESS = 10.0  # of a hidden neuron's step, in units of the steps' distance


def wavy(x: np.ndarray) -> np.ndarray:
    """The function to approximate on 0..1 (Nielsen, Neural Networks and Deep Learning, chapter 4)."""
    return 0.2 + 0.4 * x**2 + 0.3 * x * np.sin(15 * x) + 0.05 * np.cos(50 * x)


@dataclass(frozen=True)
class OneHidden:
    """v · sigmoid(w x + b) + c, with w, b, v float64 (width,)."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return sigmoid(np.outer(x, self.w) + self.b) @ self.v + self.c


def approximate(f: Callable[[np.ndarray], np.ndarray], width: int) -> OneHidden:
    """A net of `width` hidden neurons for f on 0..1, written down rather than trained.

    Hidden neuron i steps up from 0 to 1 at x_i = i / (width + 1), i = 1..width; its output weight is by how much f
    rises from the middle before x_i to the middle behind it.
    """
    steps = np.arange(1, width + 1) / (width + 1)
    middles = (np.arange(width + 1) + 0.5) / (width + 1)
    w = np.full(width, STEEPNESS * (width + 1))
    return OneHidden(w, -w * steps, np.diff(f(middles)), float(f(middles[:1])[0]))


def error(width: int) -> pd.DataFrame:
    """The net's distance from the function over 0..1: the worst and the mean."""
    off = np.abs(approximate(wavy, width)(INPUTS) - wavy(INPUTS))
    return pd.DataFrame({"worst_error": [off.max()], "mean_error": [off.mean()]})


def trials(training: Digits, test: Digits, widths: list[int]) -> dict[str, Trial]:
    return {f"{width} neurons": Trial({"width": width}, partial(error, width)) for width in widths}


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """The worst and the mean error by width."""
    return {
        error: {name: float(curves[error].iloc[-1]) for name, curves in seen.items()}
        for error in ("worst_error", "mean_error")
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    shapes, errors = figure.subplots(1, 2, width_ratios=(3, 2))
    widths = [int(name.split()[0]) for name in seen]
    for width in widths[:: max(1, len(widths) // 3)]:
        shapes.plot(INPUTS, approximate(wavy, width)(INPUTS), label=f"{width} neurons", linewidth=1.2)
    shapes.plot(INPUTS, wavy(INPUTS), "k--", label="function", linewidth=1)
    shapes.set(title="one hidden layer", xlabel="x")
    shapes.legend()
    for name in ("worst_error", "mean_error"):
        errors.loglog(widths, [curves[name].iloc[-1] for curves in seen.values()], "o-", label=name.replace("_", " "))
    errors.set(title="error", xlabel="hidden neurons")
    errors.legend()
