"""Stage prepare: each frame decoded and brought to a network's input by the very functions that serve it.

`python -m training.prepare NET` writes to data/prepared/NET
  input.json             the input as the card holds it, with the normalisation's figures
  train/, validation/    frames.npy  float32 (N, height, width), normalised
                         masks.npy   uint8 (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled
The held-out test frames are not here: what trains cannot see them.
"""

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from rich.progress import track

from service.card import Input, Normalisation
from service.tensor import to_tensor
from training import parameters
from training.sources.layout import FRAMES, NERVE, VESSEL, Row, read_frame, read_labels
from training.split import rows_of
from training.whole import whole

PREPARED = Path("data/prepared")


def mean_and_deviation(rows: list[Row], size: parameters.InputSize) -> Normalisation:
    """The grey mean and deviation of `rows` at the network's resolution, on the scale of 0..255."""
    as_they_are = Input(size.height, size.width, Normalisation("dataset", 0.0, 1.0))

    def moments(row: Row) -> tuple[float, float]:
        grey = to_tensor(read_frame(FRAMES, row), as_they_are).astype(np.float64)
        return grey.mean(), np.square(grey).mean()

    with ThreadPoolExecutor() as threads:
        found = np.array(list(track(threads.map(moments, rows), "mean and deviation", total=len(rows))))
    mean, square = found.mean(axis=0)
    return Normalisation("dataset", round(float(mean), 4), round(float(np.sqrt(square - mean**2)), 4))


def stretch_labels(labels: np.ndarray, size: parameters.InputSize, classes: int) -> np.ndarray:
    """Labels at the network's resolution: uint8 (height, width, classes), 1 where a class covers most of a pixel.

    labels: uint8 (h, w) of 0 background, 1 nerve, 2 vessel.
    """
    layers = []
    for label in (NERVE, VESSEL)[:classes]:
        covered = (labels == label).astype(np.float32)
        covered = cv2.resize(covered, (size.width, size.height), interpolation=cv2.INTER_AREA)
        layers.append((covered >= 0.5).astype(np.uint8))
    return np.stack(layers, axis=-1)


def write_side(folder: Path, rows: list[Row], network: Input, size: parameters.InputSize) -> None:
    """frames.npy and masks.npy of `rows` in `folder`, written frame by frame: they need not fit in memory."""
    folder.mkdir(parents=True)
    classes = 2 if all(row.vessels for row in rows) else 1
    shape = (len(rows), size.height, size.width)
    frames = open_memmap(folder / "frames.npy", "w+", np.float32, shape)
    masks = open_memmap(folder / "masks.npy", "w+", np.uint8, (*shape, classes))

    def fill(index: int) -> None:
        frame = read_frame(FRAMES, rows[index])
        frames[index] = to_tensor(frame, network)[..., 0]
        masks[index] = stretch_labels(frame.lit.of(read_labels(FRAMES, rows[index])), size, classes)

    with ThreadPoolExecutor() as threads:
        for _ in track(threads.map(fill, range(len(rows))), folder.name, total=len(rows)):
            pass
    frames.flush()
    masks.flush()


def prepare(folder: Path, size: parameters.InputSize, sides: dict[str, list[Row]]) -> None:
    """What the stage writes, into `folder`: the input, normalised by the frames of "train", and every side's arrays."""
    if size.normalisation == "dataset":
        normalisation = mean_and_deviation(sides["train"], size)
    else:
        normalisation = Normalisation("frame")
    network = Input(size.height, size.width, normalisation)
    for side, rows in sides.items():
        write_side(folder / side, rows, network, size)
    (folder / "input.json").write_text(json.dumps(dataclasses.asdict(network), indent=2) + "\n")


def read_side(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames and masks of one side's folder. Mapped, not read: a batch takes what it needs."""
    return np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "masks.npy", mmap_mode="r")


def read_sides(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`read_side` of "train" and "validation"."""
    return {side: read_side(folder / side) for side in ("train", "validation")}


def main(net: str) -> None:
    sides = {side: rows_of(side) for side in ("train", "validation")}
    with whole(PREPARED / net) as folder:
        prepare(folder, parameters.candidate(net).input, sides)


if __name__ == "__main__":
    main(sys.argv[1])
