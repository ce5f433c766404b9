"""The split table, data/split/split.csv: which split each labelled frame belongs to.

Columns
  frame   path of the frame, as in the manifest
  group   number of the group that the split keeps whole
  split   train, validation, test, or left_out
  reason  the frames that contradict this one; empty if there are none
"""

import pandas as pd

from training.data.contradictory_masks import contradictory_frames
from training.data.grouped_split import assign_groups, split_groups
from training.data.manifest import ManifestRow, read_manifest
from training.workspace import paths
from training.workspace.nerve_parameters import Split


def build_split_table(rows: list[ManifestRow], parameters: Split) -> pd.DataFrame:
    """Return the split table of labelled rows, one row for each frame.

    A training frame that contradicts another training frame is left out. The validation and test splits keep all their
    frames, because without difficult frames their scores would be too high. Their masks do not decide which training
    frames are left out.
    """
    groups = assign_groups([row.subject for row in rows], parameters.blocks)
    splits = split_groups(groups, parameters.validation, parameters.test, parameters.seed)
    contradictions = contradictory_frames(rows)
    table = pd.DataFrame({"frame": [row.frame for row in rows], "group": groups, "split": splits})
    table["reason"] = [_reason(contradictions.get(row.frame, set())) for row in rows]
    training = set(table.loc[table["split"] == "train", "frame"])
    left_out = [bool(frame in training and contradictions.get(frame, set()) & training) for frame in table["frame"]]
    table.loc[left_out, "split"] = "left_out"
    return table


def rows_of_split(split: str) -> list[ManifestRow]:
    """Return the manifest's rows of one split, in the manifest's order."""
    table = pd.read_csv(paths.SPLIT_TABLE)
    frames = set(table.loc[table["split"] == split, "frame"])
    return [row for row in read_manifest() if row.frame in frames]


def without_contradictions(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Return the rows that contradict no other frame of any split."""
    table = pd.read_csv(paths.SPLIT_TABLE, keep_default_na=False)
    contradictory = set(table.loc[table["reason"] != "", "frame"])
    return [row for row in rows if row.frame not in contradictory]


def _reason(frames: set[str]) -> str:
    return f"nearly identical to {', '.join(sorted(frames))}, with another mask" if frames else ""
