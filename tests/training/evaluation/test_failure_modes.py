"""Failure modes: the name of what is wrong with a mask, and their table."""

import numpy as np
import pandas as pd
import pytest

from training.evaluation.failure_modes import FAILURE_MODES, count_failures, failure_mode

NERVE = (slice(20, 40), slice(20, 40))
NOTHING = (slice(0), slice(0))


def disc(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "truth", "kind"),
    [
        (NERVE, NERVE, ""),
        (NOTHING, NOTHING, ""),
        (NOTHING, NERVE, "missed"),
        (NERVE, NOTHING, "invented"),
        ((slice(0, 15), slice(50, 70)), NERVE, "elsewhere"),
        ((slice(20, 40), slice(20, 65)), NERVE, "too large"),
        ((slice(20, 40), slice(20, 29)), NERVE, "too small"),
        ((slice(28, 48), slice(20, 40)), NERVE, "outline"),
    ],
)
def test_failure_mode_names_what_is_wrong(mask, truth, kind) -> None:
    assert failure_mode(disc(*mask), disc(*truth)) == kind
    assert not kind or kind in FAILURE_MODES


def test_count_failures_counts_each_failure_mode_and_explains_it() -> None:
    table = count_failures(pd.DataFrame({"failure": ["", "missed", "missed", "outline", ""]}))
    assert table["failure"].tolist() == ["missed", "outline"]
    assert table["frames"].tolist() == ["2 of 5", "1 of 5"]
    assert table["meaning"].tolist() == [FAILURE_MODES["missed"], FAILURE_MODES["outline"]]
    assert count_failures(pd.DataFrame({"failure": ["", ""]})).empty
