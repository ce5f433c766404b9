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
from training.evaluation.inter_rater_agreement import (
    MODEL,
    PEOPLE,
    add_means,
    agreement_table,
    pairwise_dice,
    plot_agreement,
)
from training.evaluation.summary import subgroup_table, summarize_subgroups, to_markdown
from training.workspace import paths

WORST_FRAMES = 10
REMEDY = "Make it again (the model's: request it from the service), or remove the frame."
FIRST_RATER = "frames"  # the person who labelled FRAMES


def main(
    frames: Path, masks: Path, raters: Sequence[Path] = (), regions: Path | None = None, output: Path = Path()
) -> None:
    if not masks.is_dir():
        sys.exit(
            f"acceptance: {masks} is not a folder. Make the masks with "
            f"`python -m service.client {frames}/images --out {masks}`."
        )
    names = [MODEL, PEOPLE, FIRST_RATER, *(folder.name for folder in raters)]
    if twice := {name for name in names if names.count(name) > 1}:
        sys.exit(f"acceptance: the name {min(twice)!r} is taken. Rename the rater's folder.")
    region_of_frame = _read_regions(regions) if regions else {}
    log, agreement = IngestLog(skip=False), {}
    rows = []
    try:
        for pair in usgra.pairs(frames, log):
            mask, truth = _read_mask(pair, masks), np.asarray(pair.labels) == NERVE
            rows.append({"frame": pair.source_name, **score_mask(mask, truth)})
            if not raters:
                continue
            people = {FIRST_RATER: truth, **{folder.name: _read_mask(pair, folder) for folder in raters}}
            if regions and Path(pair.source_name).stem not in region_of_frame:
                sys.exit(f"acceptance: {regions} has no region of the frame {Path(pair.source_name).stem}. Add a line.")
            agreement[pair.source_name] = pairwise_dice({MODEL: mask, **people})
    except SourceError as error:
        cause = error.__cause__  # has no advice about params.yaml
        sys.exit(f"acceptance: {cause if isinstance(cause, SourceError) else error}")
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
        _report_agreement(pd.DataFrame.from_dict(agreement, orient="index"), region_of_frame, output)


def _read_regions(file: Path) -> dict[str, str]:
    """Return the region of each frame, by the frame's name without suffix, from a CSV file."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return dict(zip(table["frame"], table["region"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"acceptance: {file} is no CSV file with the columns frame and region ({error}).")


def _report_agreement(pairs: pd.DataFrame, region_of_frame: dict[str, str], output: Path) -> None:
    """Print the agreement of raters, and write agreement.csv and agreement.png into `output`.

    region_of_frame: such as "interscalene", by the frame's name without suffix; empty without regions.
    """
    scores = add_means(pairs)
    regions = pd.Series([region_of_frame.get(Path(frame).stem) for frame in scores.index], scores.index, dtype=object)
    print(to_markdown(agreement_table(scores, regions)))
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
        raise SourceError(str(file), f"is missing: {pair.source_name} has no mask", REMEDY)
    labels, _ = usgra.decode_labels(file.read_bytes(), str(file))
    mask = labels == NERVE
    check_size(mask, np.asarray(pair.labels), str(file), REMEDY)
    return mask


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path, help="labelled frames: a folder with images/ and masks/, or its zip file")
    parser.add_argument("masks", type=Path, help="masks to score: a folder of PNG files with the frames' names")
    parser.add_argument("--rater", type=Path, action="append", default=[], metavar="FOLDER", help="a person's masks")
    parser.add_argument("--regions", type=Path, metavar="CSV", help="columns frame and region, for a row per region")
    parser.add_argument("--out", type=Path, default=paths.AGREEMENT, help="folder for the agreement (%(default)s)")
    arguments = parser.parse_args()
    if arguments.regions and not arguments.rater:
        parser.error("--regions needs the masks of another person: --rater")
    main(arguments.frames, arguments.masks, arguments.rater, arguments.regions, arguments.out)
