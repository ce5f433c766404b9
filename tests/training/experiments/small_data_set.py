"""A small data set with its splits, and a candidate that trains in seconds."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.frames import disc, png
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import write_pairs
from training.data.source_errors import IngestLog
from training.workspace import paths, tracking
from training.workspace.output_checksums import output_folder

HEIGHT_PX, WIDTH_PX = 48, 64
TINY = {
    "input": {"height": 32, "width": 48, "normalization": "dataset"},
    "tta": "none",
    "net": {"filters": [4, 8], "stem": 2, "batch_norm": False, "heads": ["mask"]},
    "recipe": {"loss": "soft_dice", "batch_size": 4, "phases": [{"epochs": 1, "learning_rate": 0.01}]},
}


def write_data_set(project: Path) -> None:
    """Write frames and split to data/ of the project: six subjects, the last in the test split.

    Each subject has a frame with a nerve, a bright disc, and a frame without one.
    """
    pairs = [_pair(subject, number) for subject in range(1, 7) for number in (1, 2)]
    with output_folder(project / paths.FRAMES) as folder:
        rows = write_pairs(pairs, folder, "phantom", IngestLog(skip=False))
    groups = [int(row.subject) - 1 for row in rows]
    splits = np.select([np.equal(groups, 5), np.equal(groups, 4)], ["test", "validation"], "train")
    table = pd.DataFrame({"frame": [row.frame for row in rows], "group": groups, "split": splits, "reason": ""})
    with output_folder(project / paths.SPLIT) as folder:
        table.to_csv(folder / paths.SPLIT_TABLE.name, index=False)


def _pair(subject: int, number: int) -> FrameMaskPair:
    pixels = disc(HEIGHT_PX, WIDTH_PX, across=0.3 + 0.08 * subject, seed=10 * subject + number)
    labels = (pixels > 150).astype(np.uint8)
    if number == 2:
        pixels, labels = np.where(labels, 12, pixels), np.zeros_like(labels)
    return FrameMaskPair(png(pixels.astype(np.uint8)), ".png", labels, str(subject), number)


def start_experiment() -> str:
    """Return the ID of a run that is the parent of trainings."""
    tracking.use_experiment("cross_validation")
    with mlflow.start_run(run_name="parent") as run:
        return str(run.info.run_id)


def runs_of_trainings(experiment: str, client: MlflowClient) -> list[Run]:
    """Return the runs of an experiment that have a parent."""
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return [run for run in runs if "mlflow.parentRunId" in run.data.tags]
