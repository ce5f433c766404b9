"""A split never divides a group."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.grouped_split import assign_groups, split_groups
from training.workspace.parameter_validation import ParameterError

subject_lists = st.lists(st.integers(1, 40).map(str), min_size=10, max_size=200)
fractions = st.floats(0.05, 0.35)


@given(subject_lists, fractions, fractions, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_a_subject_has_one_split_and_the_fractions_are_kept(subjects, validation, test, seed):
    groups = assign_groups(subjects, blocks=10)
    total = len(set(groups))
    try:
        splits = split_groups(groups, validation, test, seed)
    except ParameterError:
        assert total <= max(1, round(validation * total)) + max(1, round(test * total))
        return
    table = pd.DataFrame({"subject": subjects if len(set(subjects)) > 1 else groups, "split": splits})
    assert (table.groupby("subject")["split"].nunique() == 1).all()
    assert set(splits) == {"train", "validation", "test"}
    count = table.drop_duplicates("subject")["split"].value_counts()
    assert abs(count["validation"] - validation * total) <= 1
    assert abs(count["test"] - test * total) <= 1


@given(st.integers(3, 300), st.integers(3, 40))
@settings(deadline=None)
def test_without_subjects_the_groups_are_blocks_of_neighbouring_frames(frames, blocks):
    groups = assign_groups(["usgra"] * frames, blocks)
    assert len(groups) == frames
    assert set(np.diff(groups)) <= ({0, 1} if frames >= blocks else set(range(1, blocks)))
    assert len(set(groups)) == min(frames, blocks)
    sizes = np.bincount(groups)
    assert sizes.max() - sizes.min() <= 1


def test_the_seed_determines_the_split():
    groups = np.arange(60).repeat(3)
    first = split_groups(groups, 0.15, 0.2, seed=1)
    assert np.array_equal(first, split_groups(groups, 0.15, 0.2, seed=1))
    assert not np.array_equal(first, split_groups(groups, 0.15, 0.2, seed=2))


@pytest.mark.parametrize(("total", "validation", "test"), [(1, 0.15, 0.2), (2, 0.15, 0.2), (10, 0.5, 0.5)])
def test_too_few_groups_for_three_splits_are_an_error(total, validation, test):
    with pytest.raises(ParameterError, match=rf"nerve.split: {total} subjects .*cannot be divided"):
        split_groups(np.arange(total).repeat(5), validation, test, seed=1)
