"""The losses equal their formulas in NumPy and SciPy."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt, maximum_filter

from training.evaluation import segmentation_metrics
from training.models.losses import (
    EDGE_PX,
    EDGE_WEIGHT,
    MAX_DISTANCE_PX,
    boundary,
    cross_entropy_dice,
    dice,
    edge_weighted,
    focal_tversky,
    soft_dice,
)


@pytest.fixture
def batch():
    """Four frames of true masks, the last empty, and probabilities."""
    rng = np.random.default_rng(0)
    truth = (rng.random((4, 6, 5, 1)) > 0.7).astype(np.float32)
    truth[3] = 0
    return truth, rng.random((4, 6, 5, 1)).astype(np.float32)


def mean_cross_entropy(truth: np.ndarray, probability: np.ndarray) -> float:
    return -(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean()


def test_soft_dice_counts_the_whole_batch(batch):
    truth, probability = batch
    expected = -(2 * (truth * probability).sum() + 1) / (truth.sum() + probability.sum() + 1)
    assert float(soft_dice(truth, probability)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_dice_is_the_sum_of_both(batch):
    expected = mean_cross_entropy(*batch) + 1 + float(soft_dice(*batch))
    assert float(cross_entropy_dice(*batch)) == pytest.approx(expected, rel=1e-4)


def test_focal_tversky_weights_false_negatives_more_than_false_positives(batch):
    truth, p = batch
    overlap, false_negative, false_positive = (truth * p).sum(), (truth * (1 - p)).sum(), ((1 - truth) * p).sum()
    expected = (1 - (overlap + 1) / (overlap + 0.7 * false_negative + 0.3 * false_positive + 1)) ** 0.75
    assert float(focal_tversky(truth, p)) == pytest.approx(expected, rel=1e-4)
    assert float(focal_tversky(truth, truth)) < 1e-4


def test_edge_weighted_weights_the_entropy_near_outlines():
    rng = np.random.default_rng(0)
    truth = np.zeros((2, 24, 30, 1), np.float32)
    truth[0, 8:15, 10:20] = 1
    p = rng.uniform(0.1, 0.9, truth.shape).astype(np.float32)
    window = (1, 2 * EDGE_PX + 1, 2 * EDGE_PX + 1, 1)
    near_nerve, near_background = maximum_filter(truth, window), maximum_filter(1 - truth, window)
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    weighted = np.where((near_nerve > 0) & (near_background > 0), EDGE_WEIGHT, 1) * entropy
    expected = weighted.mean() + 1 + float(soft_dice(truth, p))
    assert float(edge_weighted(truth, p)) == pytest.approx(expected, rel=1e-4)


def test_boundary_adds_probability_times_signed_distance():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 60, 70, 1), np.float32)  # the last frame has no nerve
    truth[0, 8:15, 10:20] = truth[1, 5:45, 5:45] = 1
    p = rng.uniform(0.1, 0.9, truth.shape).astype(np.float32)
    inside, outside = (
        np.stack([distance_transform_cdt(frame[..., 0], "chessboard") for frame in region])[..., np.newaxis]
        for region in (truth, 1 - truth)
    )
    distance = np.minimum(outside, MAX_DISTANCE_PX) - np.minimum(inside, MAX_DISTANCE_PX)
    distance[2] = MAX_DISTANCE_PX  # SciPy's distance is undefined without a nerve
    expected = (distance / MAX_DISTANCE_PX * p).mean() + float(cross_entropy_dice(truth, p))
    assert float(boundary(truth, p)) == pytest.approx(expected, rel=1e-4)


def test_dice_is_one_where_both_masks_are_empty(batch):
    truth, probability = batch
    probability[3] = 0.1
    expected = [segmentation_metrics.dice(p >= 0.5, t > 0) for t, p in zip(truth, probability, strict=True)]
    assert np.asarray(dice(truth, probability)) == pytest.approx(expected, rel=1e-5)
    assert expected[3] == 1.0
