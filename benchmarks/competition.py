"""A phantom as large as the Kaggle competition, and laid out like it: its way can be gone without its data.

`python -m benchmarks.competition FOLDER` writes 5,640 frames of 47 subjects with their masks to FOLDER/train, and the
5,508 of its test set to FOLDER/test. `nerve.source=kaggle` takes FOLDER for the competition's.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from training.sources import phantom
from training.sources.layout import NERVE
from training.submission import ROWS
from training.whole import whole

SUBJECTS, FRAMES = 47, 120  # of the competition, and of most of its subjects
TRAIN_SEED, TEST_SEED = 1, 2


def lay_out(folder: Path, subjects: int, frames: int, tests: int) -> None:
    """`frames` frames of each of `subjects` subjects with masks of 0 and 255, and `tests` frames of others without.

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
            assert pair.labels is not None, "the phantom labels all its frames"
            (train / f"{stem}.tif").write_bytes(pair.frame)
            cv2.imwrite(str(train / f"{stem}_mask.tif"), np.uint8(255) * (pair.labels == NERVE))
        unlabelled = islice(phantom.pairs(-(-tests // frames), frames, TEST_SEED), tests)
        for number, pair in enumerate(track(unlabelled, "test", total=tests), start=1):
            (test / f"{number}.tif").write_bytes(pair.frame)


def main() -> None:
    parser = argparse.ArgumentParser(description="a phantom as large as the Kaggle competition")
    parser.add_argument("folder", type=Path)
    try:
        lay_out(parser.parse_args().folder, SUBJECTS, FRAMES, ROWS)
    except FileExistsError as fault:
        sys.exit(f"competition: {fault}")


if __name__ == "__main__":
    main()
