"""Convolutions and pooling as loops written out by hand, and small nets that differ in nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.digits.lesson import Figures, Trial, by_kind
from training.parameters import DigitNet, Named
from training.sources.mnist import Digits

EDGE = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], float)  # Sobel's: answers to upright edges
BLUR = np.ones((5, 5)) / 25


def convolve(image: np.ndarray, kernel: np.ndarray, dilation: int = 1) -> np.ndarray:
    """The kernel laid on every place where it fits, its weights `dilation` apart.

    image (H, W), kernel (k, k) -> (H - r, W - r) with the reach r = dilation (k - 1). The same weights serve every
    place. As in every net, the kernel is not mirrored.
    """
    reach = dilation * (len(kernel) - 1)
    result = np.zeros((image.shape[0] - reach, image.shape[1] - reach))
    for y, x in np.ndindex(*result.shape):
        for i, j in np.ndindex(*kernel.shape):
            result[y, x] += kernel[i, j] * image[y + dilation * i, x + dilation * j]
    return result


def transposed(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Every pixel lays down the kernel times its grey, `stride` apart: the picture grows.

    image (H, W), kernel (k, k) -> (stride (H - 1) + k, stride (W - 1) + k).
    """
    side = len(kernel)
    result = np.zeros((stride * (image.shape[0] - 1) + side, stride * (image.shape[1] - 1) + side))
    for y, x in np.ndindex(*image.shape):
        for i, j in np.ndindex(*kernel.shape):
            result[stride * y + i, stride * x + j] += kernel[i, j] * image[y, x]
    return result


POOLS: dict[str, Callable[[np.ndarray], float]] = {
    "max": np.max,
    "average": np.mean,
    "L2": lambda a: np.sqrt(np.sum(a**2)),
}


def pool(image: np.ndarray, kind: str, side: int = 2) -> np.ndarray:
    """One number for each window of side x side: image (H, W) -> (H // side, W // side)."""
    result = np.zeros((image.shape[0] // side, image.shape[1] // side))
    for y, x in np.ndindex(*result.shape):
        result[y, x] = POOLS[kind](image[side * y : side * (y + 1), side * x : side * (x + 1)])
    return result


def pooling(kind: str) -> list[Named]:
    """The same pooling, 2x2, as layers of Keras."""
    from keras import ops

    def root(mean):  # of the sum; its slope at 0 is not finite
        return ops.sqrt(4 * mean + 1e-12)

    average: Named = {"AveragePooling2D": {"pool_size": 2}}
    ways: dict[str, list[Named]] = {
        "max": ["MaxPooling2D"],
        "average": [average],
        "L2": [{"Activation": {"activation": ops.square}}, average, {"Activation": {"activation": root}}],
    }
    return ways[kind]


def layers(pool: str, kernel: int, dilation: int) -> list[Named]:
    """Two convolutions of 16 and 32 filters, each pooled, and the ten."""
    found: list[Named] = []
    for filters in (16, 32):
        shape = {"filters": filters, "kernel_size": kernel, "dilation_rate": dilation, "padding": "same"}
        found += [{"Conv2D": shape | {"activation": "relu"}}, *pooling(pool)]
    return [*found, "Flatten", {"Dense": {"units": 10, "activation": "softmax"}}]


def trials(training: Digits, test: Digits, digits: int, seeds: list[int], kinds: dict, recipe: dict):
    from training.digits.nets import history

    def trial(kind: dict, seed: int) -> Trial:
        net = DigitNet(layers=layers(**kind), **recipe)
        return Trial({"seed": seed, **kind}, partial(history, net, training.first(digits), test, seed))

    return {f"{name}, seed {seed}": trial(kind, seed) for name, kind in kinds.items() for seed in seeds}


def accuracies(seen: dict[str, pd.DataFrame]) -> dict[str, list[float]]:
    """The final test accuracies of each kind, one a seed."""
    return {
        kind: [float(curves["test_accuracy"].iloc[-1]) for curves in by_seed] for kind, by_seed in by_kind(seen).items()
    }


def figures(seen: dict[str, pd.DataFrame]) -> Figures:
    """Mean test accuracy over the seeds, and its range."""
    reached = accuracies(seen)
    return {
        "test_accuracy": {name: float(np.mean(by_seed)) for name, by_seed in reached.items()},
        "range": {name: max(by_seed) - min(by_seed) for name, by_seed in reached.items()},
    }


def draw(seen: dict[str, pd.DataFrame], figure: Figure) -> None:
    from training.sources.mnist import MNIST, read

    parts: Any = figure.subfigures(2, 1)
    above, below = parts
    digit = read(MNIST)[1].images[0] / 255
    shown = {
        "digit": digit,
        "3x3, edges": convolve(digit, EDGE),
        "3x3 dilated by 2": convolve(digit, EDGE, dilation=2),
        "5x5, blur": convolve(digit, BLUR),
        "transposed, stride 2": transposed(digit, np.outer([1, 2, 1], [1, 2, 1]) / 4, stride=2),
        **{f"{kind} pooled": pool(digit, kind) for kind in POOLS},
    }
    for axis, (name, picture) in zip(above.subplots(1, len(shown)), shown.items(), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(f"{name}\n{picture.shape[0]}x{picture.shape[1]}", fontsize=7)
        axis.set_axis_off()
    axis = below.subplots()
    for place, (_, reached) in enumerate(accuracies(seen).items()):
        axis.plot(reached, [place] * len(reached), "o", color="tab:blue", alpha=0.6)
    axis.set_yticks(range(len(accuracies(seen))), list(accuracies(seen)))
    axis.invert_yaxis()
    axis.set_xlabel("test accuracy, a point a seed")
