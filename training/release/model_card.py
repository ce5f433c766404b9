"""Make the card of the champion."""

from typing import Any

import pandas as pd

from service.model.card import Card, FailureMode, NetworkInput, TrainedOn
from training.data.frame_mask_pair import UNRECORDED_SUBJECTS
from training.data.licences import describe_licences
from training.evaluation.failure_modes import FAILURE_MODES
from training.evaluation.postprocessing_fit import read_postprocessing
from training.release.served_model_frames import served_model_rows
from training.workspace import nerve_parameters, paths, provenance, tracking

INTENDED_USE = (
    "Research and teaching: masks of nerves in ultrasound frames like those it was trained on. Not a medical device; "
    "its masks must not guide a needle, a dose or a diagnosis."
)
BASELINES = ("empty", "mean_mask")
SPLITS = ("validation", "test")


def build_card(champion: dict[str, Any], run: dict[str, str], network_input: NetworkInput) -> Card:
    """Return the card of the served model with the evaluated model's metrics; its precision is float32.

    champion: reports/candidates/champion.json.
    run: version and run_id of the served model.
    """
    candidate = champion["candidate"]
    evaluation = champion["candidates"][candidate]
    git = provenance.git_state()
    return Card(
        name=tracking.MODEL_NAME,
        version=run["version"] or "unregistered",
        candidate=candidate,
        run_id=run["run_id"],
        commit=git.commit,
        dirty=git.dirty,
        commit_error=git.error,
        data=evaluation["data"],
        trained_on=describe_training_frames(),
        input=network_input,
        postprocessing=read_postprocessing(evaluation),
        precision="float32",
        tta=evaluation["tta"],
        refit=nerve_parameters.read_nerve_parameters().refits,
        intended_use=INTENDED_USE,
        method=nerve_parameters.read_candidate(candidate).model_dump(),
        groups=evaluation["groups"],
        failures=list_failures(candidate),
        metrics={split: without_baselines(evaluation[split]) for split in SPLITS},
        baselines={split: {name: evaluation[split][f"baseline_{name}"] for name in BASELINES} for split in SPLITS},
    )


def describe_training_frames() -> TrainedOn:
    """Return source, licence and number of the frames that the served model was trained on."""
    rows = served_model_rows()
    return TrainedOn(
        source=rows[0].source,
        licence=describe_licences(rows),
        frames=len(rows),
        subjects=len({row.subject for row in rows} - UNRECORDED_SUBJECTS) or None,
        frames_without_nerve=sum(row.nerve_px == 0 for row in rows),
    )


def without_baselines(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of one split without those of the baselines."""
    return {name: value for name, value in metrics.items() if name not in {f"baseline_{key}" for key in BASELINES}}


def list_failures(candidate: str) -> tuple[FailureMode, ...]:
    """Return the failure modes of the evaluated model on test frames, the most frequent first."""
    scores = pd.read_csv(paths.EVALUATION / candidate / "frames.csv", keep_default_na=False)
    counts = scores.loc[scores["split"] == "test", "failure"].value_counts()
    return tuple(
        FailureMode(kind, int(counts[kind]), FAILURE_MODES[kind]) for kind in counts.index if kind in FAILURE_MODES
    )
