"""Plot presence against the frequency of a nerve, and confidence against Dice."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.evaluation.calibration_fit import ERROR_BINS, expected_calibration_error


def plot_reliability(path: Path, scores: pd.DataFrame) -> None:
    """Write a PNG with two plots: the frequency of a nerve in each bin of presence, and each mask's Dice by confidence.

    scores: the table that `training.evaluation.frame_scores.score` returns.
    """
    from sklearn.calibration import calibration_curve

    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    presence, nerve = scores["presence"].to_numpy(), scores["nerve"].to_numpy()
    left.set(xlabel="presence", ylabel="share of test frames with a nerve")
    if len(np.unique(nerve)) == 2:
        frequency, mean_presence = calibration_curve(nerve, presence, n_bins=ERROR_BINS)
        left.plot(mean_presence, frequency, marker="o")
        left.set_title(f"calibration error {expected_calibration_error(presence, nerve):.3f}", fontsize=9)
    else:
        left.set_title("no calibration error: it needs frames with and without a nerve", fontsize=9)
    right.scatter(scores["confidence"], scores["dice"], s=12)  # NaN, for an empty mask, is not drawn
    right.set(xlabel="confidence", ylabel="Dice of the test frame's mask")
    right.set_title(f"mean difference {(scores['confidence'] - scores['dice']).abs().mean():.3f}", fontsize=9)
    for axis in (left, right):
        axis.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    figure.savefig(path, dpi=110, metadata={"Software": None})
