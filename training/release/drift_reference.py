"""Measure the baseline of the drift monitoring: statistics of the training and validation frames."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from service.model.card import MeanStd, ReferenceStats
from service.monitoring.drift import intensity_mean_std
from training.data.manifest import read_frame
from training.release.served_model_frames import sample_rows, served_model_rows
from training.workspace import paths


def measure_reference_stats(candidate: str) -> ReferenceStats:
    """Return the intensities of the served model's training frames, and the evaluated model's outputs on validation."""

    def mean_std(values: Sequence[float]) -> MeanStd:
        return MeanStd(round(float(np.mean(values)), 4), round(float(np.std(values)), 4))

    frames = (read_frame(row) for row in sample_rows(served_model_rows()))
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
