"""A phantom with the size and folder layout of the Kaggle competition, to run the competition's steps without its data.

`python -m benchmarks.kaggle_phantom FOLDER` writes 5,640 frames of 47 subjects with their masks to FOLDER/train, 5,508
frames of other subjects to FOLDER/test, and the masks of those to FOLDER/solution.csv. With `nerve.source=kaggle`, the
pipeline reads FOLDER like the competition's data.

`python -m benchmarks.kaggle_phantom FOLDER --submission FILE` scores a file of `python -m training.release.submission`
as the competition does.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.progress import track

from service.rendering.run_lengths import encode_run_lengths
from training.data.frame_mask_pair import NERVE, FrameMaskPair
from training.data.sources import phantom
from training.evaluation.segmentation_metrics import dice
from training.release.submission import COMPETITION_FRAMES
from training.workspace.atomic_folder import atomic_folder

SUBJECTS, FRAMES_PER_SUBJECT = 47, 120  # the competition has 120 frames of most of its subjects
TRAIN_SEED, TEST_SEED = 1, 2
PIXELS = 420 * 580
SOLUTION = "solution.csv"


def write_competition(folder: Path, subjects: int, frames_per_subject: int, test_frames: int) -> None:
    """Write labelled training frames, test frames of other subjects, and the solution with the test masks.

    Mask files hold 0 and 255. Raises FileExistsError if `folder` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists. Choose another folder, or remove it.")
    with atomic_folder(folder) as unfinished:
        train, test = unfinished / "train", unfinished / "test"
        train.mkdir()
        test.mkdir()
        labelled = phantom.simulate_pairs(subjects, frames_per_subject, TRAIN_SEED)
        for pair in track(labelled, "train", total=subjects * frames_per_subject):
            stem = f"{pair.subject}_{pair.number}"
            (train / f"{stem}.tif").write_bytes(pair.frame_file)
            cv2.imwrite(str(train / f"{stem}_mask.tif"), nerve_mask(pair))
        solution = []
        test_subjects = -(-test_frames // frames_per_subject)
        test_pairs = islice(phantom.simulate_pairs(test_subjects, frames_per_subject, TEST_SEED), test_frames)
        for number, pair in enumerate(track(test_pairs, "test", total=test_frames), start=1):
            (test / f"{number}.tif").write_bytes(pair.frame_file)
            solution.append({"img": number, "pixels": encode_run_lengths(nerve_mask(pair))})
        pd.DataFrame(solution).to_csv(unfinished / SOLUTION, index=False)


def nerve_mask(pair: FrameMaskPair) -> np.ndarray:
    """Return the nerve's mask of a phantom frame, uint8 (420, 580), 0 or 255."""
    assert pair.labels is not None, "the phantom labels all its frames"
    return np.uint8(255) * (pair.labels == NERVE)


def score(solution: Path, submission: Path) -> pd.Series:
    """Return the Dice of each test frame; 1 if both masks are empty.

    Raises ValueError if the submission's rows are not those of the solution.
    """
    if not solution.exists():
        raise ValueError(f"{solution} is missing. Run this command without --submission first.")
    expected, submitted = (pd.read_csv(file, keep_default_na=False) for file in (solution, submission))
    if list(submitted.columns) != list(expected.columns) or not submitted["img"].equals(expected["img"]):
        raise ValueError(f"{submission} has other rows than the {len(expected)} of {solution}")
    pairs = zip(submitted["pixels"], expected["pixels"], strict=True)
    return pd.Series([dice(decode_pixels(mask), decode_pixels(nerve)) for mask, nerve in pairs])


def decode_pixels(run_lengths: str) -> np.ndarray:
    """Return the mask of pairs of start and length, bool (PIXELS,), in column-major order."""
    mask = np.zeros(PIXELS, bool)
    numbers = iter(map(int, run_lengths.split()))
    for start, length in zip(numbers, numbers, strict=True):
        mask[start - 1 : start - 1 + length] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a phantom of the Kaggle competition, or score a submission.")
    parser.add_argument("folder", type=Path, help="folder to write, or the written one with --submission")
    parser.add_argument("--submission", type=Path, help="score this file")
    arguments = parser.parse_args()
    try:
        if arguments.submission is None:
            write_competition(arguments.folder, SUBJECTS, FRAMES_PER_SUBJECT, COMPETITION_FRAMES)
        else:
            scores = score(arguments.folder / SOLUTION, arguments.submission)
            print(f"{arguments.submission}: mean Dice {scores.mean():.4f} of {len(scores)} frames")
    except (OSError, ValueError) as error:
        sys.exit(f"kaggle_phantom: {error}")


if __name__ == "__main__":
    main()
