"""Write the competition's submission file: the champion's mask of each test frame, as run lengths.

`python -m training.release.submission [FILE]` writes FILE (default: reports/submission.csv) with the columns `img` and
`pixels`, one row for each test frame, in the order of their numbers. Before it, run
`dvc exp run -S nerve.source=kaggle -S nerve.path=... package`.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from service.errors import ModelFolderError
from service.inference.segmenter import Segmenter
from service.rendering.run_lengths import encode_run_lengths
from training.data.manifest import ManifestRow, read_frame, read_manifest
from training.data.sources.kaggle import TEST_SUBJECT
from training.evaluation.inference import map_rows
from training.workspace import paths
from training.workspace.output_checksums import check_outputs

COMPETITION_FRAMES = 5508  # test frames of the competition


class MissingFramesError(Exception):
    """data/frames does not hold all test frames. The message says which one is missing."""


def select_test_frames(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Return the competition's test frames in the order of their numbers, which start at 1.

    Raises MissingFramesError if there is no test frame, or if a number is missing.
    """
    test_rows = sorted((row for row in rows if row.subject == TEST_SUBJECT), key=lambda row: row.number)
    if not test_rows:
        raise MissingFramesError(
            f"{paths.FRAMES} holds no test frame. Set nerve.source to kaggle and nerve.path to the competition's files."
        )
    if missing := sorted(set(range(1, test_rows[-1].number + 1)) - {row.number for row in test_rows}):
        left_out = paths.FRAMES / "left_out.csv"
        raise MissingFramesError(f"test frame {missing[0]}.tif is missing. {left_out} says which files were left out.")
    return test_rows


def build_submission(segmenter: Segmenter, rows: list[ManifestRow]) -> pd.DataFrame:
    """Return a row for each frame: its number, and its mask as pairs of 1-based start and length, down the columns."""

    def run_lengths(row: ManifestRow) -> str:
        return encode_run_lengths(segmenter.segment(read_frame(row)).mask)

    return pd.DataFrame({"img": [row.number for row in rows], "pixels": map_rows(run_lengths, rows, "submission")})


def main(path: Path) -> None:
    check_outputs(paths.FRAMES)
    try:
        rows, segmenter = select_test_frames(read_manifest()), Segmenter(paths.CHAMPION_FOLDER)
    except (MissingFramesError, ModelFolderError) as error:
        sys.exit(f"submission: {error}")
    table = build_submission(segmenter, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    with_nerve = (table["pixels"] != "").sum()
    note = "" if len(table) == COMPETITION_FRAMES else f" (the competition has {COMPETITION_FRAMES})"
    print(f"{path}: {len(table)} frames{note}, {with_nerve} with a nerve")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "file", nargs="?", type=Path, default=paths.SUBMISSION, help=f"the file to write (default: {paths.SUBMISSION})"
    )
    main(parser.parse_args().file)
