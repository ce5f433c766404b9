"""Sheets of example frames: the best, the median and the worst."""

from pathlib import Path

import numpy as np
import pandas as pd

from service.inference.postprocessing import postprocess
from service.model.postprocessing_config import PostprocessingConfig
from training.data.manifest import read_frame, read_manifest, read_nerve_mask
from training.evaluation.inference import Network
from training.workspace.plotting import save_sheet

FRAMES_PER_ROW = 4
WORST_FRAMES = 10


def select_examples(scores: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Return the frames of each sheet by sheet and row title, ranked by Dice.

    The sheets hold frames with a nerve, or all frames if none has one.
    """
    with_nerve = scores[scores["nerve"]] if scores["nerve"].any() else scores
    ranked = list(with_nerve.sort_values("dice", ascending=False, kind="stable")["frame"])
    middle = max(0, len(ranked) // 2 - FRAMES_PER_ROW // 2)
    worst = ranked[: -WORST_FRAMES - 1 : -1]
    return {
        "sheet": {
            "best": ranked[:FRAMES_PER_ROW],
            "median": ranked[middle : middle + FRAMES_PER_ROW],
            "worst": ranked[-FRAMES_PER_ROW:],
        },
        "worst": {"worst": worst[: WORST_FRAMES // 2], "next worst": worst[WORST_FRAMES // 2 :]},
    }


def write_sheet(
    path: Path, network: Network, config: PostprocessingConfig, scores: pd.DataFrame, examples: dict[str, list[str]]
) -> None:
    """Write a PNG with the frames of `examples` in rows, each with its Dice and the outlines of truth and mask.

    examples: frames by row title, one sheet of `select_examples`.
    """
    rows = {row.frame: row for row in read_manifest()}
    by_frame = scores.set_index("frame")

    def panel(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        frame = read_frame(rows[name])
        mask = postprocess(*network(frame), config) > 0
        scored = by_frame.loc[name]
        caption = f"{Path(name).stem}\nDice {scored['dice']:.2f} {scored['failure']}"
        return frame.pixels, read_nerve_mask(rows[name]), mask, caption

    save_sheet(path, {title: [panel(name) for name in names] for title, names in examples.items()})
