"""What masks of labelled frames score, whoever drew them: so a service is tried on frames that its net has not learnt.

`python -m training.acceptance FRAMES MASKS`, after `python -m service.client FRAMES/images --out MASKS`, prints Dice
with intervals by size of nerve and of frame, and the worst. FRAMES: a folder, or zip of it, as `nerve.path` names for
`usgra`; a faulty pair in it is named, and nothing is scored. MASKS: a folder with a PNG for each frame, called as it
is, of its size: 255 where the nerve is, or labels, as those of FRAMES.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from training.failures import counted, verdict
from training.scores import groups, markdown, table
from training.sources import usgra
from training.sources.layout import NERVE, Faults, Pair, SourceError, check_size

WORST = 10


def asked(pair: Pair, masks: Path) -> dict[str, object]:
    """The verdict on a frame's mask in the folder. Raises SourceError where there is none, or one of another size."""
    file = masks / f"{Path(pair.file).stem}.png"
    if not file.exists():
        raise SourceError(str(file), f"is missing: {pair.file} has no mask", "Ask for it, or remove the frame.")
    mask, truth = usgra.labels_of(file.read_bytes(), str(file))[0] == NERVE, np.asarray(pair.labels) == NERVE
    check_size(mask, truth, str(file), "Ask for the frame again.")
    return {"frame": pair.file, **verdict(mask, truth)}


def main(frames: Path, masks: Path) -> None:
    faults = Faults(leave_out=False)
    if not masks.is_dir():
        sys.exit(f"acceptance: {masks} is no folder: `python -m service.client {frames}/images --out {masks}` makes it")
    try:
        scores = pd.DataFrame(asked(pair, masks) for pair in usgra.pairs(frames, faults))
    except SourceError as fault:
        sys.exit(f"acceptance: {fault.__cause__ or fault}")  # the cause: without what params.yaml might say to it
    for file, reason in faults.listed:
        print(f"left out: {file} {reason}", file=sys.stderr)
    print(table(groups(scores)))
    if (scores["failure"] != "").any():
        print(markdown(counted(scores)))
        worst = scores.nsmallest(WORST, "dice")[["frame", "dice", "failure"]]
        print("The worst:\n")
        print(markdown(worst.assign(dice=worst["dice"].map("{:.3f}".format))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path, help="labelled frames: images/ and masks/ in it, or a zip of them")
    parser.add_argument("masks", type=Path, help="a folder of masks, called as the frames are")
    given = parser.parse_args()
    main(given.frames, given.masks)
