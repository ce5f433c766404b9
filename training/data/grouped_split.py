"""Divide groups of frames into training, validation and test."""

import numpy as np
import pandas as pd

from training.workspace.parameter_validation import ParameterError


def assign_groups(subjects: list[str], blocks: int) -> np.ndarray:
    """Return the group of each frame, int (N,). A split never divides a group.

    A group is a subject. If all frames have the same subject (the source records none), it is one of `blocks` runs of
    neighbouring frames.

    subjects: of each frame, in the order of the frame numbers.
    """
    if len(set(subjects)) > 1:
        return pd.factorize(np.array(subjects))[0]
    return np.arange(len(subjects)) * blocks // len(subjects)


def split_groups(groups: np.ndarray, validation: float, test: float, seed: int) -> np.ndarray:
    """Return "train", "validation" or "test" for each frame, str (N,). All frames of a group get the same.

    groups: int (N,), the group of each frame.
    validation, test: fractions of the groups, at least one group each.

    Raises ParameterError if there are too few groups for three splits.
    """
    from sklearn.model_selection import GroupShuffleSplit

    splits = np.full(len(groups), "train", dtype="<U10")
    total = len(np.unique(groups))
    counts = {"test": max(1, round(test * total)), "validation": max(1, round(validation * total))}
    if sum(counts.values()) >= total:
        raise ParameterError(
            f"params.yaml: nerve.split: {total} subjects (or blocks) cannot be divided into validation {validation} "
            f"and test {test} with a rest for training. Use smaller fractions or more frames."
        )
    for name, count in counts.items():
        rest = np.flatnonzero(splits == "train")
        splitter = GroupShuffleSplit(1, test_size=count, random_state=seed)
        _, held_out = next(splitter.split(rest, groups=groups[rest]))
        splits[rest[held_out]] = name
    return splits
