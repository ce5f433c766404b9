"""Frames and masks at the size of the network input, as memory-mapped arrays."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from rich.progress import track

from service.inference.preprocessing import preprocess
from service.model.card import NetworkInput, Normalization
from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.manifest import ManifestRow, read_frame, read_labels
from training.workspace.nerve_parameters import InputParameters


class FrameArrays(NamedTuple):
    """Frames and their masks at the size of the network input.

    frames: float32 (N, height, width), normalised.
    masks: uint8 (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled.
    """

    frames: np.ndarray
    masks: np.ndarray


def dataset_normalization(rows: list[ManifestRow], parameters: InputParameters) -> Normalization:
    """Return the mean and the standard deviation of the rows' grey values, 0..255, at the network's resolution."""
    unnormalised = NetworkInput(parameters.height, parameters.width, Normalization("dataset", 0.0, 1.0))

    def moments(row: ManifestRow) -> tuple[float, float]:
        grey = preprocess(read_frame(row), unnormalised).astype(np.float64)
        return grey.mean(), np.square(grey).mean()

    with ThreadPoolExecutor() as threads:
        progress = track(threads.map(moments, rows), "mean and deviation", total=len(rows))
        mean, square = np.array(list(progress)).mean(axis=0)
    return Normalization("dataset", round(float(mean), 4), round(float(np.sqrt(square - mean**2)), 4))


def resize_labels(labels: np.ndarray, network_input: NetworkInput, classes: int) -> np.ndarray:
    """Return a mask for each class at the network's resolution: uint8 (height, width, classes).

    A pixel is 1 where the class covers at least half of it.

    labels: uint8 (rows, columns), 0 background, 1 nerve, 2 vessel.
    classes: 1 for nerve, 2 for nerve and vessel.
    """
    masks = []
    for label in (NERVE, VESSEL)[:classes]:
        mask = (labels == label).astype(np.float32)
        coverage = cv2.resize(mask, (network_input.width, network_input.height), interpolation=cv2.INTER_AREA)
        masks.append((coverage >= 0.5).astype(np.uint8))
    return np.stack(masks, axis=-1)


def write_arrays(folder: Path, rows: list[ManifestRow], network_input: NetworkInput) -> None:
    """Write frames.npy and masks.npy of the rows into `folder`, frame by frame: they need not fit in memory.

    Vessels become the second class if they are labelled in all rows.
    """
    folder.mkdir(parents=True)
    classes = 2 if all(row.vessels for row in rows) else 1
    shape = (len(rows), network_input.height, network_input.width)
    frames = open_memmap(folder / "frames.npy", "w+", np.float32, shape)
    masks = open_memmap(folder / "masks.npy", "w+", np.uint8, (*shape, classes))

    def fill(index: int) -> None:
        frame, labels = read_frame(rows[index]), read_labels(rows[index])
        frames[index] = preprocess(frame, network_input)[..., 0]
        masks[index] = resize_labels(frame.content_box.crop(labels), network_input, classes)

    with ThreadPoolExecutor() as threads:
        for _ in track(threads.map(fill, range(len(rows))), folder.name, total=len(rows)):
            pass
    frames.flush()
    masks.flush()


def write_prepared_arrays(folder: Path, parameters: InputParameters, splits: dict[str, list[ManifestRow]]) -> None:
    """Write the network input as input.json and the arrays of each split into `folder`.

    The frames of "train" give the mean and deviation of the normalisation "dataset".
    """
    if parameters.normalization == "dataset":
        normalization = dataset_normalization(splits["train"], parameters)
    else:
        normalization = Normalization("frame")
    network_input = NetworkInput(parameters.height, parameters.width, normalization)
    for split, rows in splits.items():
        write_arrays(folder / split, rows, network_input)
    (folder / "input.json").write_text(json.dumps(dataclasses.asdict(network_input), indent=2) + "\n")


def read_arrays(folder: Path) -> FrameArrays:
    """Return the arrays of one split's folder. They are memory-mapped: a batch reads only its own frames."""
    return FrameArrays(np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "masks.npy", mmap_mode="r"))


def read_split_arrays(folder: Path) -> dict[str, FrameArrays]:
    """Return `read_arrays` of the folders "train" and "validation"."""
    return {split: read_arrays(folder / split) for split in ("train", "validation")}
