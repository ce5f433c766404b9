"""Measure a candidate under distribution shift: do wrong masks have a warning, and do right ones have none?

`python -m training.evaluation.distribution_shift CANDIDATE [--without-nerve FOLDER]` changes each test frame as another
console, or another setting of it, would (`training.evaluation.image_corruptions`). It also segments the pictures of
folders without a nerve, for example ultrasound of other organs. The candidate must be evaluated. The command writes to
reports/distribution_shift/CANDIDATE
  frames.csv  a row for each frame and shift
  table.md    a row for each shift
"""

import argparse
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from service.decoding.cine import open_cine
from service.decoding.frame import Frame
from service.errors import FrameError
from service.inference.out_of_distribution import mahalanobis_distance
from service.inference.segmentation_result import MIN_CONFIDENCE
from service.inference.segmenter import build_segmentation
from service.model.postprocessing_config import PostprocessingConfig
from service.rendering.image_encoding import to_8_bits
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.data.split_table import rows_of_split
from training.evaluation.image_corruptions import INTENSITY_CORRUPTIONS, SPATIAL_CORRUPTIONS
from training.evaluation.inference import Network, open_network
from training.evaluation.out_of_distribution_fit import measure_training_frames
from training.evaluation.postprocessing_fit import read_postprocessing
from training.evaluation.segmentation_metrics import dice
from training.evaluation.summary import to_markdown
from training.workspace import nerve_parameters, paths
from training.workspace.output_checksums import check_outputs

WITHOUT_NERVE = "without a nerve: "  # and the folder's name
WRONG_DICE, RIGHT_DICE = 0.3, 0.6  # a mask with a lower Dice is wrong, one with a higher Dice is right


def shifted_test_frames() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the name of a shift, a shifted frame, uint8 (height, width), and its nerve, bool (height, width)."""
    for row in track(rows_of_split("test"), "shifted test frames"):
        grey, truth = to_8_bits(read_frame(row)), read_nerve_mask(row)
        for name, corrupt in INTENSITY_CORRUPTIONS.items():
            yield name, corrupt(grey), truth
        for name, corrupt in SPATIAL_CORRUPTIONS.items():
            yield name, corrupt(grey), corrupt(truth.astype(np.uint8) * 255) > 127


def frames_without_nerve(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield, as `shifted_test_frames`, the scan area of each file's first frame. Print the files without a frame."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in track(files, f"frames without a nerve: {folder.name}"):
        try:
            with path.open("rb") as file:
                cine = open_cine(file)
                pixels = cine.decode(cine.read_encoded(0), 0).scan_pixels
        except FrameError as error:
            print(f"left out: {path}: {error}")
            continue
        yield WITHOUT_NERVE + folder.name, pixels, np.zeros(pixels.shape, bool)


class Scorer:
    """Scores answers as the service gives them: its functions, and statistics of the training frames.

    training: the rows of the candidate's training frames.
    """

    def __init__(self, network: Network, config: PostprocessingConfig, training: list[ManifestRow]):
        self.network = network
        self.config = config
        self.stats = measure_training_frames(training)
        self.can_exclude_nerve = any(row.nerve_px == 0 for row in training)

    def score(self, pixels: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Return Dice and expected Dice of a frame's mask, and whether the service warns about it, by reason."""
        frame = Frame(pixels)
        segmentation = build_segmentation(*self.network(frame), self.config, self.can_exclude_nerve)
        content = frame.content_box.crop(frame.pixels)
        return {
            "dice": dice(segmentation.mask > 0, truth),
            "expected_dice": segmentation.expected_dice,
            "low_confidence": bool(segmentation.confidence_notes),
            "out_of_distribution": mahalanobis_distance(content, self.stats) > self.stats.limit,
        }


def summarize_shifts(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts with a row for each shift, and one for all changed test frames."""

    def share(flags: pd.Series) -> str:
        return f"{flags.mean():.0%} of {len(flags)}" if len(flags) else "-"

    shifts = dict(list(scores.groupby("shift", sort=False)))
    is_changed = (scores["shift"] != "unchanged") & ~scores["shift"].str.startswith(WITHOUT_NERVE)
    shifts["all changed test frames"] = scores[is_changed]
    rows = []
    for name, frames in shifts.items():
        wrong, right = frames[frames["dice"] < WRONG_DICE], frames[frames["dice"] > RIGHT_DICE]
        rows.append(
            {
                "shift": name,
                "mean Dice": f"{frames['dice'].mean():.3f}",
                "mean confidence": f"{frames['expected_dice'].mean():.3f}",
                f"wrong (Dice below {WRONG_DICE}), low confidence": share(wrong["low_confidence"]),
                "wrong, any warning": share(wrong["low_confidence"] | wrong["out_of_distribution"]),
                f"right (Dice above {RIGHT_DICE}), low confidence": share(right["low_confidence"]),
                "right, any warning": share(right["low_confidence"] | right["out_of_distribution"]),
            }
        )
    return pd.DataFrame(rows)


def main(candidate: str, folders: list[Path]) -> None:
    check_outputs(paths.FRAMES, paths.SPLIT, paths.UNETS / candidate, paths.EVALUATION / candidate)
    network = open_network(paths.UNETS / candidate, nerve_parameters.read_candidate(candidate).tta)
    config = read_postprocessing(json.loads((paths.EVALUATION / candidate / "metrics.json").read_text()))
    scorer = Scorer(network, config, rows_of_split("train"))
    frames = chain(shifted_test_frames(), *map(frames_without_nerve, folders))
    scores = pd.DataFrame([{"shift": name, **scorer.score(pixels, truth)} for name, pixels, truth in frames])
    output = paths.DISTRIBUTION_SHIFT / candidate
    output.mkdir(parents=True, exist_ok=True)
    scores.to_csv(output / "frames.csv", index=False)
    table = to_markdown(summarize_shifts(scores))
    (output / "table.md").write_text(f"Low confidence: below {MIN_CONFIDENCE}.\n\n{table}")
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.distribution_shift", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("candidate", help="an evaluated candidate of params.yaml")
    parser.add_argument("--without-nerve", type=Path, action="append", default=[], metavar="FOLDER")
    arguments = parser.parse_args()
    if missing := [folder for folder in arguments.without_nerve if not folder.is_dir()]:
        parser.error(f"{missing[0]} is not a folder")
    main(arguments.candidate, arguments.without_nerve)
