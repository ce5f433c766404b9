"""Frames and masks at the size of the network input, in shards: arrays of up to SHARD_ROWS frames.

A folder of prepared arrays holds
  frames/00000.npy ...   float32 (N, height, width), normalised
  masks/00000.npy ...    uint8 (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from rich.progress import track

from service.inference.preprocessing import preprocess
from service.model.card import NetworkInput, Normalization
from training.data.frame_mask_pair import NERVE, VESSEL
from training.data.manifest import ManifestRow, read_frame, read_labels
from training.data.sharded_array import SHARD_ROWS, ShardedArray, shard_name
from training.workspace.nerve_parameters import InputParameters

Result = TypeVar("Result")
ROWS_AHEAD = 64  # prepared at most before they are written


class FrameArrays(NamedTuple):
    """Frames and their masks at the size of the network input.

    frames: float32 (N, height, width), normalised.
    masks: uint8 (N, height, width, C), 0 or 1: nerve, then vessel where it is labelled.
    """

    frames: np.ndarray | ShardedArray
    masks: np.ndarray | ShardedArray


def dataset_normalization(rows: list[ManifestRow], parameters: InputParameters) -> Normalization:
    """Return the mean and the standard deviation of the rows' grey values, 0..255, at the network's resolution."""
    unnormalised = NetworkInput(parameters.height, parameters.width, Normalization("dataset", 0.0, 1.0))

    def moments(row: ManifestRow) -> tuple[float, float]:
        grey = preprocess(read_frame(row), unnormalised).astype(np.float64)
        return grey.mean(), np.square(grey).mean()

    progress = track(_map_rows(moments, rows), "mean and deviation", total=len(rows))
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
    """Write the arrays of the rows into `folder`, frame by frame: they need not fit in memory.

    Vessels become the second class if they are labelled in all rows.
    """
    classes = 2 if all(row.vessels for row in rows) else 1
    for array in FrameArrays._fields:
        (folder / array).mkdir(parents=True)

    def prepare(row: ManifestRow) -> tuple[np.ndarray, np.ndarray]:
        frame, labels = read_frame(row), read_labels(row)
        masks = resize_labels(frame.content_box.crop(labels), network_input, classes)
        return preprocess(frame, network_input)[..., 0], masks

    size = (network_input.height, network_input.width)
    prepared = iter(track(_map_rows(prepare, rows), folder.name, total=len(rows)))
    for start in range(0, len(rows), SHARD_ROWS):
        name, count = shard_name(start), min(SHARD_ROWS, len(rows) - start)
        frames = open_memmap(folder / "frames" / name, "w+", np.float32, (count, *size))
        masks = open_memmap(folder / "masks" / name, "w+", np.uint8, (count, *size, classes))
        for index in range(count):
            frames[index], masks[index] = next(prepared)
        frames.flush()
        masks.flush()
    next(prepared, None)  # ends the progress bar


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
    """Return the arrays of one split's folder. A batch reads only its own frames."""
    return FrameArrays(*(ShardedArray(folder / array) for array in FrameArrays._fields))


def read_split_arrays(folder: Path) -> dict[str, FrameArrays]:
    """Return `read_arrays` of the folders "train" and "validation"."""
    return {split: read_arrays(folder / split) for split in ("train", "validation")}


def frames_with_nerve(arrays: FrameArrays) -> np.ndarray:
    """Return whether each frame's mask has a pixel of the nerve: bool (N,)."""
    starts = range(0, len(arrays.masks), SHARD_ROWS)
    shards = (arrays.masks[start : start + SHARD_ROWS] for start in starts)
    return np.concatenate([masks[..., 0].any(axis=(1, 2)) for masks in shards])


def _map_rows(function: Callable[[ManifestRow], Result], rows: list[ManifestRow]) -> Iterator[Result]:
    """Yield the results of `function` in the order of the rows. Several rows run at a time, few wait to be read."""
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(rows), ROWS_AHEAD):
            yield from threads.map(function, rows[start : start + ROWS_AHEAD])
