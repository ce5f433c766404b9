"""The losses against NumPy, written out."""

import numpy as np
import pytest


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    truth = (rng.random((4, 6, 5, 1)) > 0.7).astype(np.float32)
    truth[3] = 0
    return truth, rng.random((4, 6, 5, 1)).astype(np.float32)


def test_soft_dice_is_that_of_the_whole_batch(batch):
    from training.losses import soft_dice

    truth, probability = batch
    expected = -(2 * (truth * probability).sum() + 1) / (truth.sum() + probability.sum() + 1)
    assert float(soft_dice(truth, probability)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_dice_is_their_sum(batch):
    from training.losses import cross_entropy_dice, soft_dice

    truth, p = batch
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    expected = entropy + 1 + float(soft_dice(truth, p))
    assert float(cross_entropy_dice(truth, p)) == pytest.approx(expected, rel=1e-4)


def test_the_dice_of_each_frame_counts_the_same(batch):
    from training.losses import cross_entropy_frame_dice

    truth, p = batch
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    of_frames = [(2 * (t * q).sum() + 20) / (t.sum() + q.sum() + 20) for t, q in zip(truth, p, strict=True)]
    assert float(cross_entropy_frame_dice(truth, p)) == pytest.approx(entropy + 1 - np.mean(of_frames), rel=1e-4)


def test_focal_tversky_blames_what_is_missed_more_than_what_is_invented(batch):
    from training.losses import focal_tversky

    truth, p = batch
    overlap, missed, invented = (truth * p).sum(), (truth * (1 - p)).sum(), ((1 - truth) * p).sum()
    expected = (1 - (overlap + 1) / (overlap + 0.7 * missed + 0.3 * invented + 1)) ** 0.75
    assert float(focal_tversky(truth, p)) == pytest.approx(expected, rel=1e-4)
    assert float(focal_tversky(truth, truth)) < 1e-4


def test_the_entropy_near_outlines_weighs_more():
    from scipy.ndimage import maximum_filter

    from training.losses import EDGE_PX, EDGE_WEIGHT, outlines, soft_dice

    rng = np.random.default_rng(0)
    truth = np.zeros((2, 24, 30, 1), np.float32)
    truth[0, 8:15, 10:20] = 1
    p = rng.uniform(0.1, 0.9, truth.shape).astype(np.float32)
    near, near_none = (maximum_filter(of, (1, 2 * EDGE_PX + 1, 2 * EDGE_PX + 1, 1)) for of in (truth, 1 - truth))
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    expected = np.where((near > 0) & (near_none > 0), EDGE_WEIGHT, 1) * entropy
    assert float(outlines(truth, p)) == pytest.approx(expected.mean() + 1 + float(soft_dice(truth, p)), rel=1e-4)


def test_a_pixel_costs_what_it_lies_from_the_outline():
    from scipy.ndimage import distance_transform_cdt

    from training.losses import FAR_PX, boundary, cross_entropy_dice

    rng = np.random.default_rng(0)
    truth = np.zeros((3, 60, 70, 1), np.float32)  # the last without a nerve
    truth[0, 8:15, 10:20] = truth[1, 5:45, 5:45] = 1
    p = rng.uniform(0.1, 0.9, truth.shape).astype(np.float32)
    inside, outside = (
        np.stack([distance_transform_cdt(frame[..., 0], "chessboard") for frame in of])[..., np.newaxis]
        for of in (truth, 1 - truth)
    )
    signed = np.minimum(outside, FAR_PX) - np.minimum(inside, FAR_PX)
    signed[2] = FAR_PX  # scipy knows no distance where there is nothing to be away from
    expected = (signed / FAR_PX * p).mean() + float(cross_entropy_dice(truth, p))
    assert float(boundary(truth, p)) == pytest.approx(expected, rel=1e-4)


def test_dice_is_per_frame_and_one_where_both_are_empty(batch):
    from training import metrics
    from training.losses import dice

    truth, probability = batch
    probability[3] = 0.1
    expected = [metrics.dice(p >= 0.5, t > 0) for t, p in zip(truth, probability, strict=True)]
    assert np.asarray(dice(truth, probability)) == pytest.approx(expected, rel=1e-5)
    assert expected[3] == 1.0
