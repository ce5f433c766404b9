"""The frames that the served model was trained on."""

import numpy as np

from training.data.manifest import ManifestRow
from training.data.split_table import rows_of_split, without_contradictions
from training.workspace import nerve_parameters

SPLITS = ("train", "validation", "test")
MAX_SAMPLED_FRAMES = 200  # of a split


def served_model_rows() -> list[ManifestRow]:
    """Return the training split; all splits, without contradictory frames, if the source is in `nerve.refit`."""
    if not nerve_parameters.read_nerve_parameters().refits:
        return rows_of_split("train")
    return without_contradictions([row for split in SPLITS for row in rows_of_split(split)])


def sample_rows(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Return at most MAX_SAMPLED_FRAMES of the rows, evenly spaced."""
    return [rows[index] for index in np.unique(np.linspace(0, len(rows) - 1, MAX_SAMPLED_FRAMES).astype(int))]
