"""Distillation: the teachers of other folds weaken wrong labels."""

import numpy as np
import pytest

from tests.training.fitting.tiny_candidate import make_candidate, make_discs, make_recipe
from training.data.prepared_arrays import FrameArrays
from training.fitting import trainer
from training.fitting.batches import head_targets
from training.fitting.distillation import distillation_folds, soft_targets

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of TensorFlow


def test_each_frame_is_left_out_of_one_fold():
    arrays = make_discs(7)
    folds = list(distillation_folds(arrays, 3))
    assert sum(len(fold_frames) for fold_frames, _ in folds) == 2 * 7
    for frame in arrays.frames:
        assert sum(any(np.array_equal(frame, other) for other in fold_frames) for fold_frames, _ in folds) == 2


def test_a_soft_target_is_half_label_and_half_teachers():
    frames, masks = make_discs(20)
    masks = np.concatenate([masks, 1 - masks], axis=-1)  # nerve and vessel
    teachers = [lambda inputs, level=level: {"mask": np.full(inputs.shape, level)} for level in (0.2, 0.4)]
    soft = soft_targets(FrameArrays(frames, masks), teachers)
    assert (soft.shape, soft.dtype) == (masks.shape, np.float32)
    np.testing.assert_allclose(soft[..., 0], 0.5 * masks[..., 0] + 0.5 * 0.3, rtol=1e-6)
    np.testing.assert_array_equal(soft[..., 1], masks[..., 1])


@pytest.mark.training
def test_soft_targets_differ_from_wrong_labels_and_agree_with_right_ones(monkeypatch):
    """Frame 0 has a disc and an empty label, frame 1 has no disc and a label."""
    frames, masks = make_discs(24)
    masks[0], masks[1] = 0, masks[2]
    splits = {"train": FrameArrays(frames, masks), "validation": make_discs(8, seed=1)}
    used_targets = []

    def record(*arguments):
        used_targets.append(soft_targets(*arguments))
        return used_targets[-1]

    monkeypatch.setattr(trainer, "soft_targets", record)
    trainer.train(make_candidate(make_recipe(10, distillation_folds=2), heads=["mask"]), splits, seed=1)
    (soft,) = used_targets
    assert (soft.shape, soft.dtype) == (masks.shape, np.float32)
    assert np.all(soft[masks == 1] >= 0.5) and np.all(soft[masks == 0] <= 0.5)
    assert soft[0].max() > 0.1 and soft[1][masks[1] == 1].mean() < 0.9
    assert np.abs(soft[2:] - masks[2:]).mean() < 0.05
    presence = head_targets(soft, ["presence"])["presence"]
    np.testing.assert_array_equal(presence, head_targets(masks, ["presence"])["presence"])
