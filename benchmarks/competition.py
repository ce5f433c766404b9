"""A phantom as large as the Kaggle competition, and laid out like it: its way can be gone without its data.

`python -m benchmarks.competition FOLDER` writes 5,640 frames of 47 subjects with their masks to FOLDER/train, and the
5,508 of its test set, of other subjects, to FOLDER/test; their masks to FOLDER/solution.csv. `nerve.source=kaggle`
takes FOLDER for the competition's. `python -m benchmarks.competition FOLDER --submission FILE` scores what
`python -m training.submission` wrote, as the competition would.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.progress import track

from service.shapes import run_lengths
from training.metrics import dice
from training.sources import phantom
from training.sources.layout import NERVE, Pair
from training.submission import ROWS
from training.whole import whole

SUBJECTS, FRAMES = 47, 120  # of the competition, and of most of its subjects
TRAIN_SEED, TEST_SEED = 1, 2
PIXELS = 420 * 580
SOLUTION = "solution.csv"


def lay_out(folder: Path, subjects: int, frames: int, tests: int) -> None:
    """`frames` frames of each of `subjects` subjects with masks of 0 and 255, and `tests` frames of others, whose
    masks go into the solution.

    Raises FileExistsError where `folder` is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name another folder, or remove it")
    with whole(folder) as made:
        train, test = made / "train", made / "test"
        train.mkdir()
        test.mkdir()
        labelled = phantom.pairs(subjects, frames, TRAIN_SEED)
        for pair in track(labelled, "train", total=subjects * frames):
            stem = f"{pair.subject}_{pair.number}"
            (train / f"{stem}.tif").write_bytes(pair.frame)
            cv2.imwrite(str(train / f"{stem}_mask.tif"), nerve_of(pair))
        solution = []
        others = islice(phantom.pairs(-(-tests // frames), frames, TEST_SEED), tests)
        for number, pair in enumerate(track(others, "test", total=tests), start=1):
            (test / f"{number}.tif").write_bytes(pair.frame)
            solution.append({"img": number, "pixels": run_lengths(nerve_of(pair))})
        pd.DataFrame(solution).to_csv(made / SOLUTION, index=False)


def nerve_of(pair: Pair) -> np.ndarray:
    """The mask of a phantom's frame, uint8 (420, 580), 0 or 255."""
    assert pair.labels is not None, "the phantom labels all its frames"
    return np.uint8(255) * (pair.labels == NERVE)


def score(solution: Path, submission: Path) -> pd.Series:
    """Dice by test frame, 1 where neither file has a nerve. Raises ValueError where the rows are not the solution's."""
    if not solution.exists():
        raise ValueError(f"{solution} is missing: without --submission this command lays the folder out")
    truth, answered = (pd.read_csv(file, keep_default_na=False) for file in (solution, submission))
    if list(answered.columns) != list(truth.columns) or not answered["img"].equals(truth["img"]):
        raise ValueError(f"{submission} has other rows than the {len(truth)} of {solution}")
    pairs = zip(answered["pixels"], truth["pixels"], strict=True)
    return pd.Series([dice(covered(mask), covered(nerve)) for mask, nerve in pairs])


def covered(pixels: str) -> np.ndarray:
    """Which pixels a row's pairs of start and length cover, bool (PIXELS,), down the columns."""
    mask = np.zeros(PIXELS, bool)
    runs = iter(map(int, pixels.split()))
    for start, length in zip(runs, runs, strict=True):
        mask[start - 1 : start - 1 + length] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description="a phantom as large as the Kaggle competition")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--submission", type=Path, help="score this file; the folder is there already")
    asked = parser.parse_args()
    try:
        if asked.submission is None:
            lay_out(asked.folder, SUBJECTS, FRAMES, ROWS)
        else:
            reached = score(asked.folder / SOLUTION, asked.submission)
            print(f"{asked.submission}: {reached.mean():.4f}, mean Dice of {len(reached)} frames")
    except (OSError, ValueError) as fault:
        sys.exit(f"competition: {fault}")


if __name__ == "__main__":
    main()
