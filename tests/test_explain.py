"""The page on the champion: what went wrong with a mask, in words, and nothing that a browser would have to fetch."""

import numpy as np
import pandas as pd
import pytest

from training import explain
from training.failures import KINDS, counted, failure

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
def test_a_failure_has_a_name(mask, truth, kind) -> None:
    assert failure(disc(*mask), disc(*truth)) == kind
    assert not kind or kind in KINDS


def test_failures_are_counted_and_said() -> None:
    told = counted(pd.DataFrame({"failure": ["", "missed", "missed", "outline", ""]}))
    assert told["what"].tolist() == ["missed", "outline"]
    assert told["frames"].tolist() == ["2 of 5", "1 of 5"]
    assert told["that is"].tolist() == [KINDS["missed"], KINDS["outline"]]
    assert explain.html(counted(pd.DataFrame({"failure": ["", ""]}))) == ""


def test_what_a_table_holds_is_text() -> None:
    assert "&lt;script&gt;" in explain.html(pd.DataFrame({"name": ["<script>"]}))
