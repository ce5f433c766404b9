"""Score the service's masks of labelled frames that were not used for training.

`python -m training.evaluation.acceptance FRAMES MASKS` prints Dice with intervals by subgroup, and the worst frames.
Make the masks first: `python -m service.client FRAMES/images --out MASKS`. With `--rater FOLDER`, once for each further
person who labelled the frames, it also prints how well people agree with each other and the model with them, and writes
agreement.csv and agreement.png (`training.evaluation.inter_rater_agreement`).

FRAMES: a folder, or its zip file, in the layout of the source `usgra`. If a pair is invalid, nothing is scored.
MASKS, FOLDER: a folder with one PNG per frame, with the frame's name and size: 255 for nerve, or labels as in FRAMES.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from training.data.frame_mask_pair import NERVE, FrameMaskPair, check_size
from training.data.source_errors import IngestLog, SourceError
from training.data.sources import usgra
from training.evaluation.failure_modes import count_failures
from training.evaluation.frame_scores import score_mask
from training.evaluation.inter_rater_agreement import MODEL, add_means, agreement_table, pairwise_dice, plot_agreement
from training.evaluation.summary import subgroup_table, summarize_subgroups, to_markdown

WORST_FRAMES = 10


FIRST_RATER = "frames"


def main(
    frames: Path, masks: Path, raters: Sequence[Path] = (), regions: Path | None = None, output: Path = Path()
) -> None:
    if not masks.is_dir():
        sys.exit(
            f"acceptance: {masks} is not a folder. Make the masks with "
            f"`python -m service.client {frames}/images --out {masks}`."
        )
    names = [MODEL, FIRST_RATER, *(folder.name for folder in raters)]
    if twice := {name for name in names if names.count(name) > 1}:
        sys.exit(f"acceptance: two raters are called {min(twice)!r}. Rename a folder.")
    log, agreement = IngestLog(skip=False), {}
    rows = []
    try:
        for pair in usgra.pairs(frames, log):
            mask, truth = _read_mask(pair, masks), np.asarray(pair.labels) == NERVE
            rows.append({"frame": pair.source_name, **score_mask(mask, truth)})
            people = {FIRST_RATER: truth, **{folder.name: _read_mask(pair, folder) for folder in raters}}
            agreement[pair.source_name] = pairwise_dice({MODEL: mask, **people})
    except SourceError as error:
        sys.exit(f"acceptance: {error.__cause__ or error}")  # the cause has no advice about params.yaml
    scores = pd.DataFrame(rows)
    for file, reason in log.left_out:
        print(f"left out: {file} {reason}", file=sys.stderr)
    print(to_markdown(subgroup_table(summarize_subgroups(scores))))
    if (scores["failure"] != "").any():
        print(to_markdown(count_failures(scores)))
        worst = scores.nsmallest(WORST_FRAMES, "dice")[["frame", "dice", "failure"]]
        print("The worst frames:\n")
        print(to_markdown(worst.assign(dice=worst["dice"].map("{:.3f}".format))))
    if raters:
        _report_agreement(pd.DataFrame.from_dict(agreement, orient="index"), regions, output)


def _report_agreement(pairs: pd.DataFrame, regions: Path | None, output: Path) -> None:
    """Print the agreement of raters, and write agreement.csv and agreement.png into `output`.

    regions: a CSV file with the columns frame and region, such as "interscalene"; a frame by its name without suffix.
    """
    scores = add_means(pairs)
    names = [Path(frame).stem for frame in scores.index]
    by_frame = pd.read_csv(regions, dtype=str).set_index("frame")["region"] if regions else pd.Series(dtype=str)
    if regions and (missing := sorted(set(names) - set(by_frame.index))):
        sys.exit(f"acceptance: {regions} has no region of the frame {missing[0]}. Add a line for it.")
    region_of_frame = pd.Series([by_frame.get(name) for name in names], index=scores.index, dtype=object)
    print(to_markdown(agreement_table(scores, region_of_frame)))
    output.mkdir(parents=True, exist_ok=True)
    scores.to_csv(output / "agreement.csv", index_label="frame")
    plot_agreement(output / "agreement.png", scores)
    print(f"{output / 'agreement.csv'}, {output / 'agreement.png'}: the Dice of each frame")


def _read_mask(pair: FrameMaskPair, masks: Path) -> np.ndarray:
    """Return the frame's mask of a folder, bool (height, width).

    Raises SourceError if it is missing, is no mask, or has another size.
    """
    file = masks / f"{Path(pair.source_name).stem}.png"
    if not file.exists():
        remedy = "Request it from the service again, or remove the frame."
        raise SourceError(str(file), f"is missing: {pair.source_name} has no mask", remedy)
    labels, _ = usgra.decode_labels(file.read_bytes(), str(file))
    mask = labels == NERVE
    check_size(mask, np.asarray(pair.labels), str(file), "Request it from the service again.")
    return mask


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path, help="labelled frames: a folder with images/ and masks/, or its zip file")
    parser.add_argument("masks", type=Path, help="masks to score: a folder of PNG files with the frames' names")
    parser.add_argument("--rater", type=Path, action="append", default=[], metavar="FOLDER", help="a person's masks")
    parser.add_argument("--regions", type=Path, metavar="CSV", help="columns frame and region, for a row per region")
    parser.add_argument("--out", type=Path, default=Path("agreement"), help="folder for the agreement (%(default)s)")
    arguments = parser.parse_args()
    main(arguments.frames, arguments.masks, arguments.rater, arguments.regions, arguments.out)
