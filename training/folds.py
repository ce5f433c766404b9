"""Five-fold validation of a candidate, by subject or, where none is recorded, by contiguous blocks of frames.

`python -m training.folds NET` (`dvc repro folds/dvc.yaml:folds@NET`) writes to reports/folds/NET
  metrics.json   Dice by fold and of all frames, and how near the held-out frames come to training frames
  table.md       Dice with intervals, by size of nerve and of frame
  frames.csv     a row a frame, scored by the net that did not see it
  fold_N.png     the best, median and worst frames of each fold
Each fold trains on most of the other groups, stops and fits its decision on the groups that follow the fold's. The
test split takes no part, so that what is chosen by these figures can still be tested.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from service.card import Decision
from training import parameters, tracking
from training.baselines import MeanMask
from training.evaluate import Network, fit_decision, in_order, open_network, score, shown_frames, write_sheet
from training.parameters import Candidate, Nerve
from training.prepare import prepare, read_sides
from training.quiet import import_tensorflow
from training.scores import groups, rounded, spread, summary, table
from training.sources.layout import FRAMES, Row, read_frame
from training.split import NEAR, SPLIT, block_histogram, rows_of
from training.train_unet import export, train
from training.whole import whole

REPORTS = Path("reports/folds")
FOLDS = 5
SIZE = (580, 420)  # width and height at which frames of any size are compared


def sides_of(group: np.ndarray, fold: int, validation: float) -> np.ndarray:
    """ "train", "validation" or "held_out" for each frame, str (N,): whole groups, in their order round and round.

    group: int (N,). fold: from 0. validation: share of the groups.
    """
    order = np.unique(group)
    held_out = np.array_split(order, FOLDS)[fold]
    after = np.roll(order, -np.searchsorted(order, held_out[0]))[len(held_out) :]
    followed = after[: max(1, round(validation * len(order)))]
    return np.select([np.isin(group, held_out), np.isin(group, followed)], ["held_out", "validation"], "train")


def nearest(looked: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """How near each held-out frame comes to any other: the least cosine distance of their histograms, float (M,).

    looked: float32 (N, D). held_out: bool (N,).
    """
    from sklearn.metrics.pairwise import cosine_distances

    return cosine_distances(looked[held_out], looked[~held_out]).min(axis=1)


def leakage(looked: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """How much the folds leak: median distance to the nearest frame outside the fold, and share nearer than NEAR; for
    comparison, the same where frames are dealt out at random, as some papers do.

    looked: float32 (N, D). folds: int (N,), the fold in which each frame is held out.
    """
    found = {}
    for name, dealt in (("", folds), ("_at_random", np.random.default_rng(1).permutation(folds))):
        apart = np.concatenate([nearest(looked, dealt == fold) for fold in np.unique(dealt)])
        found[f"nearest{name}"] = round(float(np.median(apart)), 5)
        found[f"nearly_the_same{name}"] = round(float((apart < NEAR).mean()), 4)
    return found


def look(row: Row) -> np.ndarray:
    """The frame's block histogram, float32 (D,), at one size for all."""
    pixels = read_frame(FRAMES, row).pixels
    return block_histogram(cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA))


def sides_of_rows(fold: int, validation: float) -> dict[str, list[Row]]:
    """The rows of "train", "validation" and "held_out" of a fold, counted from 0; the test split's are in none."""
    rows = rows_of("train") + rows_of("validation")
    of_frame = pd.read_csv(SPLIT).set_index("frame")["group"]
    side = sides_of(of_frame[[row.frame for row in rows]].to_numpy(), fold, validation)
    return {kind: [rows[i] for i in np.flatnonzero(side == kind)] for kind in np.unique(side)}


@contextmanager
def trained(candidate: Candidate, sides: dict[str, list[Row]], seed: int) -> Iterator[Path]:
    """The folder, for a while, of a net trained on "train" and "validation"."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, candidate.input, {side: sides[side] for side in ("train", "validation")})
        model, _ = train(candidate, read_sides(folder), seed)
        export(model, folder / "unet.onnx")
        yield folder


def scored(network: Network, sides: dict[str, list[Row]]) -> tuple[Decision, pd.DataFrame]:
    """The decision that "validation" tells, and the scores by it of the "held_out" frames, a row a frame."""
    decision = fit_decision(network, sides["validation"])
    return decision, score(network, decision, MeanMask.of(sides["train"]), sides["held_out"], "scoring held-out")


def log(name: str, candidate: Candidate, figures: dict[str, Any], folder: Path) -> None:
    """A run of its own in MLflow: it made no net that could be served."""
    import mlflow

    tracking.store()
    with mlflow.start_run(run_name=f"{name}, folds", tags=tracking.tags(parameters.nerve().source)):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        numbers = {**figures["all"], **figures["leakage"]}
        mlflow.log_metrics({f"folds_{key}": value for key, value in numbers.items() if value is not None})
        mlflow.log_artifacts(str(folder), "folds")


def main(name: str) -> None:
    import_tensorflow()
    candidate, chosen = parameters.candidate(name), parameters.nerve()
    with whole(REPORTS / name) as written:
        measure(name, candidate, chosen, written)


def measure(name: str, candidate: Candidate, chosen: Nerve, written: Path) -> None:
    """All folds, one after another; what they came to goes into `written`, and to MLflow."""
    by_fold, rows = {}, []
    for fold in range(FOLDS):
        sides = sides_of_rows(fold, chosen.split.validation)
        with trained(candidate, sides, chosen.seed) as folder:
            network = open_network(folder, candidate.mirrored)
            decision, scores = scored(network, sides)
        by_fold[fold + 1] = scores
        write_sheet(written / f"fold_{fold + 1}.png", network, decision, scores, shown_frames(scores)["sheet"])
        rows += sides["held_out"]
        print(f"{name}, fold {fold + 1}: Dice {scores['dice'].mean():.3f}")

    together = pd.concat(by_fold, names=["fold"]).reset_index(level="fold")
    figures = {
        "all": summary(together),
        "folds": {fold: rounded(spread(scores["dice"])) for fold, scores in by_fold.items()},
        "leakage": leakage(np.stack(in_order(look, rows, "leakage")), together["fold"].to_numpy()),
    }
    (written / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    (written / "table.md").write_text(table(groups(together)))
    together.to_csv(written / "frames.csv", index=False)
    log(name, candidate, figures, written)


if __name__ == "__main__":
    main(sys.argv[1])
