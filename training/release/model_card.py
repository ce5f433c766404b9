"""Make the card of the champion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from service.model.card import Card, FailureMode, Input, MeanStd, ReferenceStats, TrainedOn
from service.monitoring.drift import intensity_mean_std
from training.data.manifest import describe_licences, read_frame
from training.data.sources import usgra
from training.evaluation.failure_modes import FAILURE_MODES
from training.evaluation.postprocessing_fit import read_postprocessing
from training.release.training_rows import sample_rows, served_model_rows
from training.workspace import parameters, paths, provenance, tracking

INTENDED_USE = (
    "Research and teaching: masks of nerves in ultrasound frames like those it was trained on. Not a medical device; "
    "its masks must not guide a needle, a dose or a diagnosis."
)
BASELINES = ("empty", "mean_mask")
SPLITS = ("validation", "test")


def build_card(champion: dict[str, Any], run: dict[str, str], network_input: Input) -> Card:
    """The card of the served model with the evaluated model's metrics; its precision is float32.

    champion: reports/champion.json. run: version and run_id of the served model.
    """
    candidate = champion["candidate"]
    evaluation = champion["candidates"][candidate]
    commit, dirty = provenance.git_commit()
    return Card(
        name=tracking.MODEL_NAME,
        version=run["version"] or "unregistered",
        candidate=candidate,
        run_id=run["run_id"],
        commit=commit,
        dirty=dirty,
        data=evaluation["data"],
        trained_on=describe_training_frames(),
        input=network_input,
        postprocessing=read_postprocessing(evaluation),
        precision="float32",
        tta=evaluation["tta"],
        refit=parameters.nerve().refits,
        intended_use=INTENDED_USE,
        method=parameters.candidate(candidate).model_dump(),
        groups=evaluation["groups"],
        failures=list_failures(candidate),
        metrics={split: without_baselines(evaluation[split]) for split in SPLITS},
        baselines={split: {name: evaluation[split][f"baseline_{name}"] for name in BASELINES} for split in SPLITS},
    )


def describe_training_frames() -> TrainedOn:
    """Source, licence and number of the frames that the served model was trained on."""
    rows = served_model_rows()
    return TrainedOn(
        source=rows[0].source,
        licence=describe_licences(rows),
        frames=len(rows),
        subjects=len({row.subject for row in rows} - {usgra.UNRECORDED_SUBJECT}) or None,
    )


def without_baselines(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics of one split without those of the baselines."""
    return {name: value for name, value in metrics.items() if name not in {f"baseline_{key}" for key in BASELINES}}


def list_failures(candidate: str) -> tuple[FailureMode, ...]:
    """The failure modes of the evaluated model on test frames, the most frequent first."""
    scores = pd.read_csv(paths.EVALUATION / candidate / "frames.csv", keep_default_na=False)
    counts = scores.loc[scores["split"] == "test", "failure"].value_counts()
    return tuple(
        FailureMode(kind, int(counts[kind]), FAILURE_MODES[kind]) for kind in counts.index if kind in FAILURE_MODES
    )


def measure_reference_stats(candidate: str) -> ReferenceStats:
    """Intensities of the served model's training frames, and the evaluated model's outputs on validation."""

    def mean_std(values: Sequence[float]) -> MeanStd:
        return MeanStd(round(float(np.mean(values)), 4), round(float(np.std(values)), 4))

    frames = (read_frame(paths.FRAMES, row) for row in sample_rows(served_model_rows()))
    means, deviations = zip(*map(intensity_mean_std, frames), strict=True)
    scores = pd.read_csv(paths.EVALUATION / candidate / "frames.csv")
    confidences = scores.loc[scores["split"] == "validation", "confidence"]
    confidences_of_masks = confidences.dropna().to_list()  # an empty mask has no confidence
    return ReferenceStats(
        intensity_mean=mean_std(means),
        intensity_deviation=mean_std(deviations),
        presence_rate=round(len(confidences_of_masks) / len(confidences), 4),
        confidence=mean_std(confidences_of_masks) if confidences_of_masks else None,
    )
