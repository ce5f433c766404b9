"""Universality: one hidden layer of sigmoid neurons approximates a function; a wider layer is more accurate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit as sigmoid

from training.data.sources.mnist import Digits
from training.digits.trial import Metrics, Results, Trial

INPUTS = np.linspace(0, 1, 2001)
STEEPNESS = 10.0  # of a hidden neuron's step, relative to the distance between two steps
ERRORS = ("worst_error", "mean_error")


def wavy(x: np.ndarray) -> np.ndarray:
    """Return the function to approximate on 0..1 (Nielsen, Neural Networks and Deep Learning, chapter 4)."""
    return 0.2 + 0.4 * x**2 + 0.3 * x * np.sin(15 * x) + 0.05 * np.cos(50 * x)


@dataclass(frozen=True)
class OneHiddenLayer:
    """v · sigmoid(w x + b) + c, with w, b, v float64 (width,)."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return sigmoid(np.outer(x, self.w) + self.b) @ self.v + self.c


def approximate(f: Callable[[np.ndarray], np.ndarray], width: int) -> OneHiddenLayer:
    """Return a network with `width` hidden neurons that approximates f on 0..1. Its weights are computed, not trained.

    Hidden neuron i steps from 0 to 1 at x_i = i / (width + 1), i = 1..width. Its output weight is the rise of f from
    the midpoint before x_i to the midpoint after it.
    """
    steps = np.arange(1, width + 1) / (width + 1)
    midpoints = (np.arange(width + 1) + 0.5) / (width + 1)
    w = np.full(width, STEEPNESS * (width + 1))
    return OneHiddenLayer(w, -w * steps, np.diff(f(midpoints)), float(f(midpoints[:1])[0]))


def approximation_error(width: int) -> pd.DataFrame:
    """Return the largest and the mean absolute error of the network over 0..1."""
    errors = np.abs(approximate(wavy, width)(INPUTS) - wavy(INPUTS))
    return pd.DataFrame({"worst_error": [errors.max()], "mean_error": [errors.mean()]})


def trials(training: Digits, test: Digits, widths: list[int]) -> dict[str, Trial]:
    return {f"{width} neurons": Trial({"width": width}, partial(approximation_error, width)) for width in widths}


def metrics(results: Results) -> Metrics:
    """Return the largest and the mean error, by width."""
    return {error: {name: float(table[error].iloc[-1]) for name, table in results.items()} for error in ERRORS}


def draw(results: Results, figure: Figure) -> None:
    functions, errors = figure.subplots(1, 2, width_ratios=(3, 2))
    widths = [int(name.split()[0]) for name in results]
    for width in widths[:: max(1, len(widths) // 3)]:
        functions.plot(INPUTS, approximate(wavy, width)(INPUTS), label=f"{width} neurons", linewidth=1.2)
    functions.plot(INPUTS, wavy(INPUTS), "k--", label="function", linewidth=1)
    functions.set(title="one hidden layer", xlabel="x")
    functions.legend()
    for error in ERRORS:
        values = [table[error].iloc[-1] for table in results.values()]
        errors.loglog(widths, values, "o-", label=error.replace("_", " "))
    errors.set(title="error", xlabel="hidden neurons")
    errors.legend()
