"""Train a candidate on one fold and score it on the held-out frames."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from service.model.card import PostprocessingConfig
from training.data.manifest import ManifestRow
from training.data.prepared_arrays import read_split_arrays, write_prepared_arrays
from training.evaluation.baselines import MeanMask
from training.evaluation.inference import Network
from training.evaluation.postprocessing_fit import fit_postprocessing
from training.evaluation.scoring import score
from training.fitting.trainer import train
from training.models.onnx_export import export_onnx
from training.workspace.keras_callbacks import ProgressBar
from training.workspace.parameters import Candidate


@contextmanager
def train_on_fold(candidate: Candidate, rows: dict[str, list[ManifestRow]], seed: int, title: str) -> Iterator[Path]:
    """Train on "train" and "validation". Yield the network's folder, which exists until the block ends.

    rows: by split. title: shown before the progress bar.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prepared_arrays(folder, candidate.input, {split: rows[split] for split in ("train", "validation")})
        progress = ProgressBar(title, candidate.recipe.epochs, {})
        model, _ = train(candidate, read_split_arrays(folder), seed, [progress])
        export_onnx(model, folder / "unet.onnx")
        yield folder


def score_held_out(network: Network, rows: dict[str, list[ManifestRow]]) -> tuple[PostprocessingConfig, pd.DataFrame]:
    """Fit postprocessing on "validation". Return it, and the scores of the "held_out" frames, a row per frame."""
    config = fit_postprocessing(network, rows["validation"])
    return config, score(network, config, MeanMask.fit(rows["train"]), rows["held_out"], "scoring held-out")
