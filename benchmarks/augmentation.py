"""Augmentation of a training frame: this project's functions and Albumentations.

`python -m benchmarks.augmentation` prints a Markdown table. It needs no trained model. Albumentations is not one of the
project's dependencies: `uv pip install albumentations==2.0.8` installs it for this benchmark.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from tabulate import tabulate

from training.fitting.augmentation import augment
from training.workspace.nerve_parameters import Augmentation

TITLE = "Augmentation"
HEIGHT, WIDTH, MASKS = 160, 224, 2  # the input of the candidate `deep`, with nerve and vessel
ROUNDS, FRAMES_PER_ROUND = 15, 20
# The augmentation of the candidate `deep`.
SHIFT, ZOOM, ROTATE_DEGREES, ELASTIC = 0.15, 0.3, 15.0, 0.015
GAIN, SPECKLE, GAMMA, BLUR_PX, TGC, SHADOW = 0.15, 0.1, 0.2, 0.6, 0.15, 0.15
ELASTIC_SIGMA_PX = 32.0  # the spacing of the project's displacement grid

Augmenter = Callable[[np.ndarray, np.ndarray], Any]


def measure() -> list[dict[str, Any]]:
    """Return the median CPU milliseconds for a frame with its masks, one row for each part."""
    cv2.setNumThreads(1)
    peers = albumentations_by_part()
    rows = []
    for part, strength in project_by_part().items():
        ours, peer = [], []
        for _ in range(ROUNDS):
            ours.append(_cpu_ms(_project(strength)))
            if part in peers:
                peer.append(_cpu_ms(peers[part]))
        row = {"augmentation": part, "ours_ms": round(statistics.median(ours), 3)}
        rows.append(row | ({"albumentations_ms": round(statistics.median(peer), 3)} if peer else {}))
    return rows


def project_by_part() -> dict[str, Augmentation]:
    """Return the project's parameters, one part more in each entry. All have the flip and the noise of the gain."""
    affine = {"gain": 0.0, "speckle": 0.0, "shift": SHIFT, "zoom": ZOOM, "rotate": ROTATE_DEGREES}
    elastic = affine | {"elastic": ELASTIC}
    gamma = elastic | {"gamma": GAMMA}
    blur = gamma | {"blur": BLUR_PX}
    gain = blur | {"gain": GAIN, "speckle": SPECKLE}
    parts = {
        "flip and affine": affine,
        "and elastic": elastic,
        "and gamma": gamma,
        "and blur": blur,
        "and gain and speckle": gain,
        "and TGC and acoustic shadow": gain | {"tgc": TGC, "shadow": SHADOW},
    }
    return {part: Augmentation(**strength) for part, strength in parts.items()}


def albumentations_by_part() -> dict[str, Augmenter]:
    """Return the nearest transforms of Albumentations, which has no TGC and no acoustic shadow."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise the import asks a server for the newest version
    import albumentations

    zoom = (float(np.exp(-ZOOM)), float(np.exp(ZOOM)))
    shift = (-SHIFT, SHIFT)
    affine = albumentations.Affine(
        scale={"x": zoom, "y": zoom},
        translate_percent={"x": shift, "y": shift},
        rotate=(-ROTATE_DEGREES, ROTATE_DEGREES),
        p=1.0,
    )
    steps = {
        "flip and affine": [albumentations.HorizontalFlip(p=0.5), affine],
        "and elastic": [albumentations.ElasticTransform(alpha=ELASTIC * WIDTH, sigma=ELASTIC_SIGMA_PX, p=1.0)],
        "and gamma": [albumentations.RandomGamma((100 * np.exp(-GAMMA), 100 * np.exp(GAMMA)), p=1.0)],
        "and blur": [albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.2, BLUR_PX), p=0.5)],
        "and gain and speckle": [
            albumentations.RandomBrightnessContrast(GAIN, GAIN, p=1.0),
            albumentations.MultiplicativeNoise((1 - SPECKLE, 1 + SPECKLE), elementwise=True, p=1.0),
        ],
    }
    pipeline: list[Any] = []
    augmenters = {}
    for part, transforms in steps.items():
        pipeline += transforms
        augmenters[part] = _albumentations(albumentations.Compose(list(pipeline), seed=1))
    return augmenters


def _project(strength: Augmentation) -> Augmenter:
    rng = np.random.default_rng(1)
    return lambda frame, masks: augment(frame, masks, strength, rng)


def _albumentations(compose: Callable[..., Any]) -> Augmenter:
    return lambda frame, masks: compose(image=frame, mask=masks)


def _cpu_ms(augmenter: Augmenter) -> float:
    """Return the CPU milliseconds for a frame, float32 (HEIGHT, WIDTH) in 0..1, and its masks."""
    rng = np.random.default_rng(0)
    frame = rng.random((HEIGHT, WIDTH), dtype=np.float32)
    masks = (rng.random((HEIGHT, WIDTH, MASKS)) > 0.9).astype(np.uint8)
    augmenter(frame, masks)  # the first call makes caches
    start = time.process_time()
    for _ in range(FRAMES_PER_ROUND):
        augmenter(frame, masks)
    return (time.process_time() - start) * 1000 / FRAMES_PER_ROUND


def to_markdown(figures: list[dict[str, Any]]) -> str:
    """Return a table with a column for the ratio."""
    rows = [
        [row["augmentation"], row["ours_ms"], peer, f"{peer / row['ours_ms']:.1f}" if peer else ""]
        for row in figures
        for peer in [row.get("albumentations_ms", "")]
    ]
    headers = ["augmentation", "ours, ms", "Albumentations, ms", "times slower"]
    note = (
        f"CPU milliseconds for a {HEIGHT}x{WIDTH} frame with {MASKS} masks, one thread, median of {ROUNDS} rounds. "
        "Each row adds to the row above."
    )
    return f"{note}\n\n{tabulate(rows, headers=headers, tablefmt='pipe')}"


if __name__ == "__main__":
    print(to_markdown(measure()))
