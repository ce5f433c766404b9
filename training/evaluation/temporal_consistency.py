"""Measure how steady the masks of simulated cines are, with and without temporal smoothing.

`python -m training.evaluation.temporal_consistency [MODEL]` simulates cines in which the probe moves, and segments them
as the service does. The nerve is known in each frame, so it is known how much a mask has to change from frame to frame.
In every second cine the probe sweeps away until the nerve has left the frame, and back. The command also leaves out
frames, as if the probe moved faster. It writes to reports/temporal_consistency
  frames.csv  a row for each frame
  table.md    a row for each speed of the probe, without and with smoothing
"""

import argparse
import time
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from rich.progress import track

from service.decoding.frame import Frame
from service.errors import ModelFolderError
from service.inference.segmentation_result import FrameFailure
from service.inference.segmenter import Segmenter
from service.inference.temporal_smoothing import TemporalSmoother
from service.resources.worker_memory import UNLIMITED_MEMORY
from training.data.frame_mask_pair import NERVE
from training.data.sources.phantom.cine import simulate_cine
from training.evaluation.segmentation_metrics import dice
from training.evaluation.summary import to_markdown
from training.workspace import paths

SEED, FIRST_SUBJECT = 2, 1  # the pipeline's phantom has seed 1: no subject is in both
SPEEDS = (1, 4)  # of the probe: every frame, and every fourth
SMOOTHINGS = ("none", "temporal")


class SimulatedCine:
    """A Cine of simulated frames.

    pixels: each uint8 (height, width). truth: the nerve in each frame, bool (height, width).
    """

    def __init__(self, frames: list[tuple[np.ndarray, np.ndarray]], step: int = 1):
        self.pixels = [pixels for pixels, _ in frames[::step]]
        self.truth = [labels == NERVE for _, labels in frames[::step]]
        self.frame_count = len(self.pixels)

    def frame_bytes(self, index: int, rendered_bytes_per_pixel: int = 0) -> int:
        return 0

    def read_encoded(self, index: int) -> bytes:
        return b""

    def decode(self, encoded: bytes, index: int) -> Frame:
        return Frame(self.pixels[index], index=index)


def score_cine(segmenter: Segmenter, cine: SimulatedCine, smoothing: str) -> Iterator[dict[str, Any]]:
    """Yield the scores of each frame's mask.

    dice: with the nerve; 1 if both are empty. nerve, mask: whether the frame has one. confidence: the expected Dice,
        0..1.
    change, true_change: 1 - Dice of the mask, and of the nerve, with that of the frame before; NaN for the first frame.
    seconds: time of the whole cine, by number of frames.
    """
    smoother = TemporalSmoother() if smoothing == "temporal" else None
    start = time.perf_counter()
    batches = segmenter.segment_cine(cine, UNLIMITED_MEMORY, lambda result: result.segmentation, smoother)
    segmentations = list(chain.from_iterable(batches))
    seconds = (time.perf_counter() - start) / cine.frame_count
    before: tuple[np.ndarray, np.ndarray] | None = None
    for segmentation, truth in zip(segmentations, cine.truth, strict=True):
        assert not isinstance(segmentation, FrameFailure), "a simulated frame cannot be damaged"
        mask = segmentation.mask > 0
        yield {
            "dice": dice(mask, truth),
            "nerve": truth.any(),
            "mask": mask.any(),
            "confidence": segmentation.expected_dice,
            "change": 1 - dice(mask, before[0]) if before else np.nan,
            "true_change": 1 - dice(truth, before[1]) if before else np.nan,
            "seconds": seconds,
        }
        before = mask, truth


def summarize_consistency(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts with a row for each speed of the probe and smoothing.

    "Change beyond the nerve's": the mean of the difference of both changes, where that of the mask is larger.
    """
    scores = scores.assign(
        excess=(scores["change"] - scores["true_change"]).clip(lower=0),
        confidence_error=(scores["confidence"] - scores["dice"]).abs(),
        missed=(scores["dice"] == 0).astype(float).where(scores["nerve"]),
        false_mask=scores["mask"].astype(float).where(~scores["nerve"]),
    )
    means = scores.groupby(["speed", "smoothing"], sort=False).mean(numeric_only=True).reset_index()
    columns = {
        "dice": "mean Dice",
        "missed": "Dice of 0, frames with a nerve",
        "false_mask": "mask, frames without a nerve",
        "confidence_error": "error of the confidence",
        "change": "change of the mask",
        "true_change": "change of the nerve",
        "excess": "change beyond the nerve's",
    }
    table = means[["speed", "smoothing"]].astype(str)
    for name, title in columns.items():
        table[title] = means[name].map("{:.4f}".format)
    table["gain in Dice by cine, standard error"] = _dice_gains(scores, means)
    table["milliseconds a frame"] = (means["seconds"] * 1000).map("{:.1f}".format)
    return table


def _dice_gains(scores: pd.DataFrame, means: pd.DataFrame) -> list[str]:
    """Return, for each row of `means`, the gain over no smoothing: its mean over cines and its standard error."""
    by_cine = scores.groupby(["speed", "smoothing", "cine"])["dice"].mean()
    gains = []
    for speed, smoothing in zip(means["speed"], means["smoothing"], strict=True):
        gain = by_cine[speed, smoothing] - by_cine[speed, SMOOTHINGS[0]]
        gains.append(f"{gain.mean():+.4f}, {gain.sem():.4f}" if smoothing != SMOOTHINGS[0] else "")
    return gains


def main(model: Path, cines: int, frames: int) -> None:
    cv2.setNumThreads(1)  # as the service does
    segmenter = Segmenter(model)
    rows = []
    for subject in track(range(FIRST_SUBJECT, FIRST_SUBJECT + cines), "cines"):
        simulated = list(simulate_cine(SEED, subject, frames, sweeps=subject % 2 == 0))
        for speed, smoothing in product(SPEEDS, SMOOTHINGS):
            scores = score_cine(segmenter, SimulatedCine(simulated, speed), smoothing)
            rows += [{"cine": subject, "speed": speed, "smoothing": smoothing, **score} for score in scores]
    paths.TEMPORAL_CONSISTENCY.mkdir(parents=True, exist_ok=True)
    table = to_markdown(summarize_consistency(pd.DataFrame(rows)))
    pd.DataFrame(rows).to_csv(paths.TEMPORAL_CONSISTENCY / "frames.csv", index=False)
    (paths.TEMPORAL_CONSISTENCY / "table.md").write_text(table)
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.temporal_consistency", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "model", nargs="?", type=Path, default=paths.CHAMPION_FOLDER, help="a model folder (the champion)"
    )
    parser.add_argument("--cines", type=int, default=20, help="number of cines, each of another subject (20)")
    parser.add_argument("--frames", type=int, default=80, help="of each cine, 20 a second (80)")
    arguments = parser.parse_args()
    try:
        main(arguments.model, arguments.cines, arguments.frames)
    except ModelFolderError as error:
        parser.exit(1, f"temporal_consistency: {error}\n")
