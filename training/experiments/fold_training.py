"""Train a candidate on one fold and score it on the held-out frames."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mlflow
import pandas as pd

from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import ManifestRow
from training.data.prepared_arrays import read_split_arrays, write_prepared_arrays
from training.evaluation.baselines import MeanMask
from training.evaluation.frame_scores import score
from training.evaluation.inference import Network, open_network
from training.evaluation.postprocessing_fit import fit_postprocessing
from training.evaluation.summary import summarize_dice
from training.experiments.folds import rows_of_fold
from training.fitting.trainer import train
from training.models.onnx_export import export_onnx
from training.workspace import nerve_parameters, tracking
from training.workspace.keras_callbacks import ProgressBar
from training.workspace.nerve_parameters import Candidate, Tta

if TYPE_CHECKING:
    import keras


class FoldResult(NamedTuple):
    """A network trained on one fold.

    config: the postprocessing, fitted on "validation".
    scores: a row per held-out frame.
    minutes: the time of the training.
    """

    network: Network
    config: PostprocessingConfig
    scores: pd.DataFrame
    minutes: float


@contextmanager
def train_and_score(
    candidate: Candidate, fold: int, seed: int, title: str, ttas: Mapping[str, Tta], parent_run: str
) -> Iterator[dict[str, FoldResult]]:
    """Train on one fold, as a run of MLflow. Yield a result for each of `ttas`, all of the same training.

    The run is active and the networks are usable until the block ends.

    fold: 1 to FOLDS.
    title: the name of the run, and the text before the progress bar.
    ttas: test-time augmentations by the name of the result. The run logs the Dice of the first one.
    parent_run: the run of the experiment.
    """
    rows = rows_of_fold(fold)
    with (
        mlflow.start_run(
            run_name=title,
            tags=tracking.run_tags(nerve_parameters.read_nerve_parameters().source),
            parent_run_id=parent_run,
        ),
        tempfile.TemporaryDirectory() as name,
    ):
        mlflow.log_params(tracking.flatten(candidate.model_dump()))
        folder = Path(name)
        start = time.perf_counter()
        progress = ProgressBar(title, candidate.recipe.epochs, {})
        export_onnx(train_on_fold(candidate, rows, seed, folder, [progress]), folder / "unet.onnx")
        minutes = (time.perf_counter() - start) / 60
        results = {}
        for result_name, tta in ttas.items():
            network = open_network(folder, tta)
            results[result_name] = FoldResult(network, *_score_held_out(network, rows), minutes)
        first = next(iter(results.values()))
        mlflow.log_metrics({"minutes": minutes, **summarize_dice(first.scores["dice"])})
        yield results


def train_on_fold(
    candidate: Candidate,
    rows: dict[str, list[ManifestRow]],
    seed: int,
    folder: Path,
    callbacks: "Sequence[keras.callbacks.Callback]",
) -> "keras.Model":
    """Train on "train" and "validation"; return the network. The prepared frames are written into `folder`."""
    write_prepared_arrays(folder, candidate.input, {split: rows[split] for split in ("train", "validation")})
    model, _ = train(candidate, read_split_arrays(folder), seed, callbacks)
    return model


def _score_held_out(network: Network, rows: dict[str, list[ManifestRow]]) -> tuple[PostprocessingConfig, pd.DataFrame]:
    """Fit postprocessing on "validation". Return it, and the scores of the "held_out" frames."""
    config = fit_postprocessing(network, rows["validation"])
    return config, score(network, config, MeanMask.fit(rows["train"]), rows["held_out"], "scoring held-out")
