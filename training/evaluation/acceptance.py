"""Score the service's masks of labelled frames that were not used for training.

`python -m training.evaluation.acceptance FRAMES MASKS` prints Dice with intervals by subgroup, and the worst frames.
Make the masks first: `python -m service.client FRAMES/images --out MASKS`.

FRAMES: a folder, or its zip file, in the layout of the source `usgra`. If a pair is invalid, nothing is scored.
MASKS: a folder with one PNG per frame, with the frame's name and size: 255 for nerve, or labels as in FRAMES.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.data.frame_mask_pair import NERVE, FrameMaskPair, check_size
from training.data.source_errors import IngestLog, SourceError
from training.data.sources import usgra
from training.evaluation.failure_modes import count_failures
from training.evaluation.frame_scores import score_mask
from training.evaluation.summary import subgroup_table, summarize_subgroups, to_markdown

WORST_FRAMES = 10


def main(frames: Path, masks: Path) -> None:
    if not masks.is_dir():
        sys.exit(
            f"acceptance: {masks} is not a folder. Make the masks with "
            f"`python -m service.client {frames}/images --out {masks}`."
        )
    log = IngestLog(skip=False)
    try:
        scores = pd.DataFrame(_score_pair(pair, masks) for pair in usgra.pairs(frames, log))
    except SourceError as error:
        sys.exit(f"acceptance: {error.__cause__ or error}")  # the cause has no advice about params.yaml
    for file, reason in log.left_out:
        print(f"left out: {file} {reason}", file=sys.stderr)
    print(to_markdown(subgroup_table(summarize_subgroups(scores))))
    if (scores["failure"] != "").any():
        print(to_markdown(count_failures(scores)))
        worst = scores.nsmallest(WORST_FRAMES, "dice")[["frame", "dice", "failure"]]
        print("The worst frames:\n")
        print(to_markdown(worst.assign(dice=worst["dice"].map("{:.3f}".format))))


def _score_pair(pair: FrameMaskPair, masks: Path) -> dict[str, Any]:
    """Return the scores of a frame's mask. Raises SourceError if the mask is missing or has another size."""
    file = masks / f"{Path(pair.source_name).stem}.png"
    if not file.exists():
        remedy = "Request it from the service again, or remove the frame."
        raise SourceError(str(file), f"is missing: {pair.source_name} has no mask", remedy)
    labels, _ = usgra.decode_labels(file.read_bytes(), str(file))
    mask, truth = labels == NERVE, np.asarray(pair.labels) == NERVE
    check_size(mask, truth, str(file), "Request it from the service again.")
    return {"frame": pair.source_name, **score_mask(mask, truth)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path, help="labelled frames: a folder with images/ and masks/, or its zip file")
    parser.add_argument("masks", type=Path, help="masks to score: a folder of PNG files with the frames' names")
    arguments = parser.parse_args()
    main(arguments.frames, arguments.masks)
