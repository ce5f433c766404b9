"""Run-lengths of COCO, decoded as pycocotools 2.0.11 encodes them."""

import numpy as np
import pytest

from training.data.sources.folder.run_lengths import decode_run_lengths

ROWS, COLUMNS = np.mgrid[:60, :80]
DISC = (ROWS - 30) ** 2 + (COLUMNS - 40) ** 2 < 200
STAIRS = (ROWS >= 10) & (ROWS < 40) & (COLUMNS >= 20) & (COLUMNS < 20 + ROWS)
MASKS = {  # the texts are `pycocotools.mask.encode(mask)["counts"]`
    "disc": (DISC, "ea13e18J4M2N2N2N2N2O0O2O00000O2O0001N1000001N101N2N2N2N2N3L6HS^1"),
    "stairs": (STAIRS, "jU1n0n0000000000000000001O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1O1OUV1"),
    "empty": (np.zeros((60, 80), bool), "Pf4"),
    "full": (np.ones((60, 80), bool), "0Pf4"),
}


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the lengths of the runs down each column in turn, of background first."""
    pixels = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], pixels]))).tolist()
    return np.diff([0, *edges, pixels.size]).tolist()


@pytest.mark.parametrize("name", MASKS)
def test_lists_and_compressed_texts_are_the_same_mask(name) -> None:
    mask, text = MASKS[name]
    assert np.array_equal(decode_run_lengths(text, 60, 80), mask)
    assert np.array_equal(decode_run_lengths(run_lengths(mask), 60, 80), mask)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([4799], "do not add up to 80x60 pixels"),
        ([4801, -1], "do not add up"),
        ("Pf3", "do not add up"),
        ("Pf4P", "end within a number"),
        ("o" * 20, "too large"),
        ("Pf4\n", r"have the character '\\n'"),
        (None, "NoneType"),
    ],
    ids=str,
)
def test_invalid_run_lengths_are_an_error(counts, reason) -> None:
    with pytest.raises((ValueError, TypeError), match=reason):
        decode_run_lengths(counts, 60, 80)
