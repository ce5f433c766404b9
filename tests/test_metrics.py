"""Scores against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from training.metrics import dice, hausdorff95, iou

masks = arrays(bool, (9, 11))


@given(masks, masks)
@settings(deadline=None)
def test_dice_and_iou_tell_the_same(mask, truth):
    assert dice(mask, truth) == dice(truth, mask)
    assert dice(mask, truth) == pytest.approx(2 * iou(mask, truth) / (1 + iou(mask, truth)))


def test_empty_masks():
    nothing, something = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert dice(nothing, nothing) == iou(nothing, nothing) == 1.0
    assert dice(nothing, something) == iou(nothing, something) == 0.0
    assert math.isnan(hausdorff95(nothing, something))


def test_hausdorff_of_a_shifted_square_is_the_shift():
    mask, truth = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    truth[20:40, 25:45] = True
    assert hausdorff95(mask, mask) == 0.0
    assert hausdorff95(mask, truth) == pytest.approx(5.0)


def test_hausdorff_against_all_distances_written_out():
    rng = np.random.default_rng(0)
    mask, truth = (np.kron(rng.random((6, 6)) > 0.5, np.ones((4, 4))).astype(bool) for _ in range(2))

    def outline(shape):
        padded = np.pad(shape, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(shape & ~inner)

    a, b = outline(mask), outline(truth)
    apart = np.linalg.norm(a[:, np.newaxis] - b[np.newaxis], axis=-1)
    expected = np.percentile(np.concatenate([apart.min(axis=1), apart.min(axis=0)]), 95)
    assert hausdorff95(mask, truth) == pytest.approx(expected)
