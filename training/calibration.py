"""How far a probability may be believed: fitted on validation, measured on test."""

from pathlib import Path

import numpy as np
import pandas as pd

from service.card import Logistic, log_odds
from service.decision import LEVELS, calibrated

BINS = 10
LEAST_FRAMES = 10  # with fewer, two numbers fit chance
SLOPES = (0.1, 10.0)  # of pixels' log-odds: where toy frames are separable, there is no best


def fit(said: np.ndarray, reached: np.ndarray) -> Logistic:
    """The map from what was said to what was reached, both float (N,), 0..1.

    reached: 0 or 1 (Platt 1999), or a share such as a Dice (fractional logit: Papke and Wooldridge 1996). As in
    Platt, no target is quite 0 or 1, or the slope of separable frames would have no end. A prior of deviation 1
    draws the slope to the identity's: where all frames say nearly the same, they do not tell a slope.
    """
    from scipy.optimize import minimize

    count = len(said)
    odds = np.array([log_odds(float(probability)) for probability in said])
    targets = np.clip(reached, 1 / (count + 2), 1 - 1 / (count + 2))

    def unlikelihood(line: np.ndarray) -> float:
        logits = line[0] * odds + line[1]
        return float(np.sum(np.logaddexp(0, logits) - targets * logits) + (line[0] - 1) ** 2 / 2)

    slope, offset = minimize(unlikelihood, (1.0, 0.0), bounds=[(0, None), (None, None)]).x
    return Logistic(round(float(slope), 4), round(float(offset), 4))


def fit_presence(said: np.ndarray, happened: np.ndarray) -> Logistic:
    """`fit`, or the identity below LEAST_FRAMES, or where every frame holds a nerve, or none does: then there is
    nothing to tell apart."""
    if happened.all() or not happened.any():
        print("presence is not calibrated: the frames of validation all hold a nerve, or none does")
        return Logistic()
    return Logistic() if _too_few("presence", len(said), "frames") else fit(said, happened.astype(float))


def counted(level: np.ndarray, nerve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of a frame's pixels at each level of probability without nerve and with it, two float64 (LEVELS,).

    level: `service.decision.levels` of them, (pixels,). nerve: bool (pixels,).
    """
    with_nerve = np.bincount(level[nerve], minlength=LEVELS)
    return (np.bincount(level, minlength=LEVELS) - with_nerve) / len(level), with_nerve / len(level)


def fit_certainty(certain: np.ndarray, reached: np.ndarray) -> Logistic:
    """`fit`, of masks' certainty to the Dice that they reached; the identity below LEAST_FRAMES."""
    return Logistic() if _too_few("confidence", len(certain), "masks") else fit(certain, reached)


def fit_pixels(frames: list[tuple[np.ndarray, np.ndarray]]) -> Logistic:
    """The map from what the network says of a pixel to how often it was nerve, by what `counted` gave of each frame;
    the identity below LEAST_FRAMES, or where no pixel is nerve."""
    from scipy.optimize import minimize

    without, with_nerve = (np.sum(shares, axis=0) for shares in zip(*frames, strict=True))
    met = np.flatnonzero(without + with_nerve)
    if _too_few("a pixel's probability", len(frames), "frames") or not with_nerve.any():
        return Logistic()
    probability = calibrated(Logistic())[met]
    odds = np.log(probability / (1 - probability))

    def unlikelihood(line: np.ndarray) -> float:
        logits = line[0] * odds + line[1]
        return float(np.logaddexp(0, logits) @ without[met] + np.logaddexp(0, -logits) @ with_nerve[met])

    slope, offset = minimize(unlikelihood, (1.0, 0.0), method="Nelder-Mead", bounds=[SLOPES, (None, None)]).x
    return Logistic(round(float(slope), 4), round(float(offset), 4))


def _too_few(what: str, number: int, of_what: str) -> bool:
    """Whether there are fewer than LEAST_FRAMES; then it is said."""
    if number < LEAST_FRAMES:
        print(f"{what} is not calibrated: {number} {of_what} of validation, where {LEAST_FRAMES} are the least")
    return number < LEAST_FRAMES


def calibration_error(said: np.ndarray, happened: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) over BINS of equal width: said (N,) 0..1, happened bool (N,)."""
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    apart = np.bincount(place, said, BINS) - np.bincount(place, happened, BINS)  # of sums, so weighted by count
    return float(np.abs(apart).sum() / len(said))


def reliability(path: Path, scores: pd.DataFrame) -> None:
    """How far the answers may be believed: in each bin of presence, how often there was a nerve; and the Dice of each
    mask, by its confidence. scores: as `training.evaluate.score` gives them."""
    from matplotlib.figure import Figure
    from sklearn.calibration import calibration_curve

    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    said, happened = scores["presence"].to_numpy(), scores["nerve"].to_numpy()
    left.set(xlabel="presence, as it is answered", ylabel="share of test frames with a nerve")
    if len(np.unique(happened)) == 2:
        share, mean = calibration_curve(happened, said, n_bins=BINS)
        left.plot(mean, share, marker="o")
        left.set_title(f"calibration error {calibration_error(said, happened):.3f}", fontsize=9)
    else:
        left.set_title("all frames alike: presence has nothing to calibrate", fontsize=9)
    right.scatter(scores["confidence"], scores["dice"], s=12)  # those without a mask have no confidence
    right.set(xlabel="confidence, as it is answered", ylabel="Dice of the test frame's mask")
    right.set_title(f"apart by {(scores['confidence'] - scores['dice']).abs().mean():.3f} on average", fontsize=9)
    for axis in (left, right):
        axis.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    figure.savefig(path, dpi=110, metadata={"Software": None})
