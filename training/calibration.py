"""How far a probability may be believed: fitted on validation, measured on test."""

from pathlib import Path

import numpy as np

from service.card import Logistic, log_odds

BINS = 10
LEAST_FRAMES = 10  # with fewer, two numbers fit chance


def fit(said: np.ndarray, reached: np.ndarray) -> Logistic:
    """The map from what was said to what was reached, both float (N,), 0..1; the identity below LEAST_FRAMES.

    reached: 0 or 1 (Platt 1999), or a share such as a Dice (fractional logit: Papke and Wooldridge 1996). As in
    Platt, no target is quite 0 or 1, or the slope of separable frames would have no end.
    """
    from scipy.optimize import minimize

    count = len(said)
    if count < LEAST_FRAMES:
        return Logistic()
    odds = np.array([log_odds(float(probability)) for probability in said])
    targets = np.clip(reached, 1 / (count + 2), 1 - 1 / (count + 2))

    def cross_entropy(line: np.ndarray) -> float:
        logits = line[0] * odds + line[1]
        return float(np.mean(np.logaddexp(0, logits) - targets * logits))

    slope, offset = minimize(cross_entropy, (1.0, 0.0), bounds=[(0, None), (None, None)]).x
    return Logistic(round(float(slope), 4), round(float(offset), 4))


def fit_presence(said: np.ndarray, happened: np.ndarray) -> Logistic:
    """`fit`, or the identity where every frame holds a nerve, or none does: then there is nothing to tell apart."""
    if happened.all() or not happened.any():
        print("presence is not calibrated: the frames of validation all hold a nerve, or none does")
        return Logistic()
    return fit(said, happened.astype(float))


def calibration_error(said: np.ndarray, happened: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) over BINS of equal width: said (N,) 0..1, happened bool (N,)."""
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    apart = np.bincount(place, said, BINS) - np.bincount(place, happened, BINS)  # of sums, so weighted by count
    return float(np.abs(apart).sum() / len(said))


def reliability(path: Path, said: np.ndarray, happened: np.ndarray) -> None:
    """The reliability diagram: in each bin, how often there was a nerve against how probable it was said to be."""
    from matplotlib.figure import Figure
    from sklearn.calibration import calibration_curve

    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    axis.set(xlabel="presence, as it is answered", ylabel="share of test frames with a nerve")
    if len(np.unique(happened)) == 2:
        share, mean = calibration_curve(happened, said, n_bins=BINS)
        axis.plot(mean, share, marker="o")
        axis.set_title(f"calibration error {calibration_error(said, happened):.3f}", fontsize=9)
    else:
        axis.set_title("all frames alike: presence has nothing to calibrate", fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
