"""Convolution and pooling as explicit loops, and small networks that differ only in them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from keras import ops
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits
from training.digits.nets import train_history
from training.digits.trial import Metrics, Results, Trial, group_by_kind
from training.workspace import paths
from training.workspace.digits_parameters import DigitNet, KerasObject

EDGE = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], float)  # Sobel's kernel for vertical edges
BLUR = np.ones((5, 5)) / 25


def convolve(image: np.ndarray, kernel: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Apply the kernel at each position where it fits, with its weights `dilation` pixels apart.

    image (H, W), kernel (k, k) -> (H - r, W - r) with the reach r = dilation (k - 1). Each position uses the same
    weights. The kernel is not flipped, as in neural networks.
    """
    reach = dilation * (len(kernel) - 1)
    result = np.zeros((image.shape[0] - reach, image.shape[1] - reach))
    for y, x in np.ndindex(*result.shape):
        for i, j in np.ndindex(*kernel.shape):
            result[y, x] += kernel[i, j] * image[y + dilation * i, x + dilation * j]
    return result


def convolve_transposed(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Add the kernel, multiplied by each pixel's value, to a larger image, at positions `stride` pixels apart.

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
    """Return one number for each window of side x side pixels: image (H, W) -> (H // side, W // side)."""
    result = np.zeros((image.shape[0] // side, image.shape[1] // side))
    for y, x in np.ndindex(*result.shape):
        result[y, x] = POOLS[kind](image[side * y : side * (y + 1), side * x : side * (x + 1)])
    return result


def pooling_layers(kind: str) -> list[KerasObject]:
    """Return the same pooling of 2x2 windows, as Keras layers."""

    def root_of_sum(mean):  # of four squares; the small number keeps the derivative at 0 finite
        return ops.sqrt(4 * mean + 1e-12)

    average: KerasObject = {"AveragePooling2D": {"pool_size": 2}}
    kinds: dict[str, list[KerasObject]] = {
        "max": ["MaxPooling2D"],
        "average": [average],
        "L2": [{"Activation": {"activation": ops.square}}, average, {"Activation": {"activation": root_of_sum}}],
    }
    return kinds[kind]


def layers(pool: str, kernel: int, dilation: int) -> list[KerasObject]:
    """Return two convolutions with 16 and 32 filters, each with pooling after it, and ten outputs."""
    entries: list[KerasObject] = []
    for filters in (16, 32):
        shape = {"filters": filters, "kernel_size": kernel, "dilation_rate": dilation, "padding": "same"}
        entries += [{"Conv2D": shape | {"activation": "relu"}}, *pooling_layers(pool)]
    return [*entries, "Flatten", {"Dense": {"units": 10, "activation": "softmax"}}]


def trials(
    training: Digits, test: Digits, digits: int, seeds: list[int], kinds: dict, recipe: dict
) -> dict[str, Trial]:

    def trial(kind: dict, seed: int) -> Trial:
        net = DigitNet(layers=layers(**kind), **recipe)
        return Trial({"seed": seed, **kind}, partial(train_history, net, training.first(digits), test, seed))

    return {f"{name}, seed {seed}": trial(kind, seed) for name, kind in kinds.items() for seed in seeds}


def final_accuracies(results: Results) -> dict[str, list[float]]:
    """Return the final test accuracies of each kind, one for each seed."""
    return {
        kind: [float(history["test_accuracy"].iloc[-1]) for history in histories]
        for kind, histories in group_by_kind(results).items()
    }


def metrics(results: Results) -> Metrics:
    """Return the mean test accuracy over the seeds, and its range."""
    accuracies = final_accuracies(results)
    return {
        "test_accuracy": {kind: float(np.mean(by_seed)) for kind, by_seed in accuracies.items()},
        "range": {kind: max(by_seed) - min(by_seed) for kind, by_seed in accuracies.items()},
    }


def draw(results: Results, figure: Figure) -> None:
    from training.data.sources.mnist import read_digits

    subfigures: Any = figure.subfigures(2, 1)
    above, below = subfigures
    digit = read_digits(paths.MNIST)[1].images[0] / 255
    images = {
        "digit": digit,
        "3x3, edges": convolve(digit, EDGE),
        "3x3 dilated by 2": convolve(digit, EDGE, dilation=2),
        "5x5, blur": convolve(digit, BLUR),
        "transposed, stride 2": convolve_transposed(digit, np.outer([1, 2, 1], [1, 2, 1]) / 4, stride=2),
        **{f"{kind} pooling": pool(digit, kind) for kind in POOLS},
    }
    for axis, (name, image) in zip(above.subplots(1, len(images)), images.items(), strict=True):
        axis.imshow(image, cmap="gray")
        axis.set_title(f"{name}\n{image.shape[0]}x{image.shape[1]}", fontsize=7)
        axis.set_axis_off()
    axis, accuracies = below.subplots(), final_accuracies(results)
    for y, by_seed in enumerate(accuracies.values()):
        axis.plot(by_seed, [y] * len(by_seed), "o", color="tab:blue", alpha=0.6)
    axis.set_yticks(range(len(accuracies)), list(accuracies))
    axis.invert_yaxis()
    axis.set_xlabel("test accuracy, one point for each seed")
