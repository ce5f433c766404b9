"""A fold of a candidate's five-fold validation: by subject or, where none is recorded, by contiguous blocks of frames
(frame by frame at random, where `nerve.split.blocks` makes each frame a block).

`python -m training.folds NET FOLD` (`dvc repro folds/dvc.yaml:fold@NET-FOLD`), FOLD from 1 to 5, writes to
reports/folds/NET/FOLD
  frames.csv  a row a held-out frame, scored by the net that did not see it
  sheet.png   the best, median and worst of them
A fold trains on most of the other groups, stops and fits its decision on the groups that follow its own. The test split
takes no part, so that what is chosen by these figures can still be tested. `training.yardstick` tells what all came to.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from service.card import Decision
from training import parameters, tracking
from training.baselines import MeanMask
from training.evaluate import Network, fit_decision, open_network, score, shown_frames, write_sheet
from training.parameters import Candidate
from training.prepare import prepare, read_sides
from training.quiet import import_tensorflow
from training.scores import spread
from training.sources.layout import Row
from training.split import SPLIT, rows_of
from training.train_unet import export, train
from training.whole import whole

REPORTS = Path("reports/folds")
EXPERIMENT = "folds"
FOLDS = 5
DEALT = 1  # the seed of folds dealt frame by frame


def sides_of(group: np.ndarray, fold: int, validation: float) -> np.ndarray:
    """ "train", "validation" or "held_out" for each frame, str (N,): whole groups, in their order round and round;
    where each frame is a group of its own, neighbours are not to be kept together: they are dealt at random.

    group: int (N,). fold: from 0. validation: share of the groups.
    """
    order = np.unique(group)
    if len(order) == len(group):
        order = np.random.default_rng(DEALT).permutation(order)
    parts = np.array_split(order, FOLDS)
    held_out, after = parts[fold], np.concatenate(parts[fold + 1 :] + parts[:fold])
    followed = after[: max(1, round(validation * len(order)))]
    return np.select([np.isin(group, held_out), np.isin(group, followed)], ["held_out", "validation"], "train")


def sides_of_rows(fold: int, validation: float) -> dict[str, list[Row]]:
    """The rows of "train", "validation" and "held_out" of a fold, counted from 0; the test split's are in none."""
    rows = rows_of("train") + rows_of("validation")
    of_frame = pd.read_csv(SPLIT).set_index("frame")["group"]
    side = sides_of(of_frame[[row.frame for row in rows]].to_numpy(), fold, validation)
    return {kind: [rows[i] for i in np.flatnonzero(side == kind)] for kind in np.unique(side)}


@contextmanager
def trained(candidate: Candidate, sides: dict[str, list[Row]], seed: int, title: str) -> Iterator[Path]:
    """The folder, for a while, of a net trained on "train" and "validation"; `title` stands before its progress."""
    from training.watch import Progress

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, candidate.input, {side: sides[side] for side in ("train", "validation")})
        bar = Progress(title, candidate.recipe.epochs, {})
        model, _ = train(candidate, read_sides(folder), seed, [bar])
        export(model, folder / "unet.onnx")
        yield folder


def scored(network: Network, sides: dict[str, list[Row]]) -> tuple[Decision, pd.DataFrame]:
    """The decision that "validation" tells, and the scores by it of the "held_out" frames, a row a frame."""
    decision = fit_decision(network, sides["validation"])
    return decision, score(network, decision, MeanMask.of(sides["train"]), sides["held_out"], "scoring held-out")


def main(name: str, fold: int) -> None:
    import_tensorflow()
    import mlflow

    if not 1 <= fold <= FOLDS:
        raise SystemExit(f"folds: there is no fold {fold}: they are numbered from 1 to {FOLDS}")
    candidate, chosen, title = parameters.candidate(name), parameters.nerve(), f"{name}, fold {fold}"
    sides = sides_of_rows(fold - 1, chosen.split.validation)
    tracking.store(EXPERIMENT)
    with (
        whole(REPORTS / name / str(fold)) as folder,
        mlflow.start_run(run_name=title, tags=tracking.tags(chosen.source)),
    ):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        start = time.perf_counter()
        with trained(candidate, sides, chosen.seed, title) as net:
            minutes = (time.perf_counter() - start) / 60
            network = open_network(net, candidate.mirrored)
            decision, scores = scored(network, sides)
        scores.assign(fold=fold, minutes=minutes, made_of=tracking.made_of(candidate)).to_csv(
            folder / "frames.csv", index=False
        )
        write_sheet(folder / "sheet.png", network, decision, scores, shown_frames(scores)["sheet"])
        mlflow.log_metrics({"minutes": minutes, **spread(scores["dice"])})
        mlflow.log_artifacts(str(folder))
    print(f"{title}: Dice {scores['dice'].mean():.3f} after {minutes:.0f} minutes of training")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
