"""Run a candidate's network on frames as the service does."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import track

from service.decoding.frame import Frame
from service.inference.postprocessing import postprocess
from service.inference.runtime_selection import open_runtime
from service.inference.segmenter import predict_probabilities
from service.model.card import NetworkInput, Normalization, Tta
from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.evaluation.segmentation_metrics import dice

Result = TypeVar("Result")
# Takes a frame. Returns the probability of nerve, float32 (height, width) of the frame, and presence; both 0..1.
Network = Callable[[Frame], tuple[np.ndarray, float]]


def open_network(folder: Path, tta: Tta) -> Network:
    """Open the network of a candidate's folder (unet.onnx, input.json) in the service's runtime."""
    entry = json.loads((folder / "input.json").read_text())
    network_input = NetworkInput(entry["height"], entry["width"], Normalization(**entry["normalization"]))
    return partial(predict_probabilities, open_runtime(folder, tta=tta), network_input)


def map_rows(function: Callable[[ManifestRow], Result], rows: list[ManifestRow], title: str) -> list[Result]:
    """Return the results of `function` in the order of the rows. Several rows run at a time, under a progress bar."""
    with ThreadPoolExecutor() as threads:
        return list(track(threads.map(function, rows), title, total=len(rows)))


def dice_scores(network: Network, config: PostprocessingConfig, rows: list[ManifestRow], title: str) -> np.ndarray:
    """Return the Dice of each frame's mask at the frame's own resolution, float (N,)."""

    def score_row(row: ManifestRow) -> float:
        mask = postprocess(*network(read_frame(row)), config) > 0
        return dice(mask, read_nerve_mask(row))

    return np.array(map_rows(score_row, rows, title))
