"""The competition's submission file: the champion's mask of every test frame, as run-lengths.

`python -m training.submission [FILE]`, after `dvc exp run -S nerve.source=kaggle -S nerve.path=... package`, writes
FILE (reports/submission.csv): `img,pixels`, a row for each test frame that ingest found, in the order of their numbers.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from service.errors import ModelFolderError
from service.segmenter import Segmenter
from service.shapes import run_lengths
from training.evaluate import in_order
from training.package import FOLDER
from training.sources.kaggle import TEST
from training.sources.layout import FRAMES, Row, read_frame, read_manifest

SUBMISSION = Path("reports/submission.csv")
ROWS = 5508  # of the competition


class IncompleteError(Exception):
    """There is not one frame for each row of the submission; the message says which is missing."""


def frames_to_submit(rows: list[Row]) -> list[Row]:
    """The competition's test frames, numbered from 1. Raises IncompleteError where there is none, or one is missing."""
    found = sorted((row for row in rows if row.subject == TEST), key=lambda row: row.number)
    if not found:
        raise IncompleteError("data/frames holds no test frame: set nerve.source to kaggle, nerve.path to its files")
    if missing := sorted(set(range(1, found[-1].number + 1)) - {row.number for row in found}):
        raise IncompleteError(f"test frame {missing[0]}.tif is missing: look into data/frames/left_out.csv")
    return found


def submission(segmenter: Segmenter, rows: list[Row]) -> pd.DataFrame:
    """A row a frame: its number, and its mask's pairs of 1-based start and length, down the columns."""

    def pixels(row: Row) -> str:
        return run_lengths(segmenter.segment(read_frame(FRAMES, row)).mask)

    return pd.DataFrame({"img": [row.number for row in rows], "pixels": in_order(pixels, rows, "submission")})


def main(path: Path) -> None:
    try:
        rows, segmenter = frames_to_submit(read_manifest(FRAMES)), Segmenter(FOLDER)
    except (IncompleteError, ModelFolderError) as fault:
        sys.exit(f"submission: {fault}")
    written = submission(segmenter, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    written.to_csv(path, index=False)
    shown = (written["pixels"] != "").sum()
    other = "" if len(written) == ROWS else f"; the competition has {ROWS}"
    print(f"{path}: {len(written)} frames{other}, {shown} with a nerve")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=SUBMISSION, help=f"what is written ({SUBMISSION})")
    main(parser.parse_args().file)
