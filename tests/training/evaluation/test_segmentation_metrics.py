"""Metrics agree with their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from training.evaluation.segmentation_metrics import dice, hausdorff95, iou

masks = arrays(bool, (9, 11))


@given(masks, masks)
@settings(deadline=None)
def test_dice_is_symmetric_and_follows_from_iou(mask, truth):
    assert dice(mask, truth) == dice(truth, mask)
    assert dice(mask, truth) == pytest.approx(2 * iou(mask, truth) / (1 + iou(mask, truth)))


def test_empty_masks():
    empty, diagonal = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert dice(empty, empty) == iou(empty, empty) == 1.0
    assert dice(empty, diagonal) == iou(empty, diagonal) == 0.0
    assert math.isnan(hausdorff95(empty, diagonal))


def test_the_hausdorff_distance_of_a_shifted_square_is_the_shift():
    mask, truth = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    truth[20:40, 25:45] = True
    assert hausdorff95(mask, mask) == 0.0
    assert hausdorff95(mask, truth) == pytest.approx(5.0)


def test_the_hausdorff_distance_agrees_with_all_pairwise_distances():
    rng = np.random.default_rng(0)
    mask, truth = (np.kron(rng.random((6, 6)) > 0.5, np.ones((4, 4))).astype(bool) for _ in range(2))

    def outline(shape):
        padded = np.pad(shape, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(shape & ~inner)

    a, b = outline(mask), outline(truth)
    distances = np.linalg.norm(a[:, np.newaxis] - b[np.newaxis], axis=-1)
    expected = np.percentile(np.concatenate([distances.min(axis=1), distances.min(axis=0)]), 95)
    assert hausdorff95(mask, truth) == pytest.approx(expected)
