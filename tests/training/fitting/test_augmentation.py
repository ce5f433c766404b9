"""Frame and masks get the same spatial augmentation, and only the frame the intensity augmentation."""

import numpy as np
import pytest

from training.fitting.augmentation import augment
from training.workspace.nerve_parameters import Augmentation

STRONG_SPATIAL = Augmentation(shift=0.2, zoom=0.3, rotate=30, gain=0.0, speckle=0.0, elastic=0.01)
FLIP_ONLY = Augmentation(shift=0, zoom=0, rotate=0, gain=0, speckle=0)


@pytest.mark.parametrize("elastic", [0.0, 0.01])
def test_masks_follow_the_frame(elastic):
    rng = np.random.default_rng(0)
    frame = np.zeros((64, 96), np.float32)
    frame[20:44, 30:60] = 1.0
    masks = frame.astype(np.uint8)[..., np.newaxis]
    for _ in range(20):
        moved, moved_masks = augment(frame, masks, STRONG_SPATIAL.model_copy(update={"elastic": elastic}), rng)
        agreement = np.mean((moved >= 0.5) == (moved_masks[..., 0] > 0))
        assert agreement > 0.99
    assert set(np.unique(moved_masks)) <= {0, 1}
    assert np.mean((moved > 0.1) & (moved < 0.9)) > 0.01  # the frame is interpolated


def test_intensity_augmentation_leaves_masks_unchanged():
    rng = np.random.default_rng(0)
    frame = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    masks = np.ones((64, 96, 2), np.uint8)
    changed, same_masks = augment(frame, masks, FLIP_ONLY.model_copy(update={"gain": 0.3, "speckle": 0.2}), rng)
    assert np.array_equal(same_masks, masks)
    assert not np.allclose(np.abs(changed), np.abs(frame), atol=0.05)


@pytest.mark.parametrize("change", [{"gamma": 0.5}, {"tgc": 0.4}, {"shadow": 1.0}, {"blur": 2.0}, {"elastic": 0.02}])
def test_each_augmentation_has_an_effect_and_keeps_black_black(change):
    frame = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    frame[:, :20] = frame[:, -20:] = frame.min()
    masks = np.ones((64, 96, 1), np.uint8)
    effects = []
    for seed in range(8):
        plain, changed = (
            augment(frame, masks, FLIP_ONLY.model_copy(update=update), np.random.default_rng(seed))[0]
            for update in ({}, change)
        )
        effects.append(np.abs(plain - changed).mean())
        assert changed.min() == pytest.approx(frame.min(), abs=1e-4)
    assert max(effects) > 0.01


def test_an_acoustic_shadow_only_darkens():
    frame = np.random.default_rng(1).random((64, 96)).astype(np.float32)
    masks = np.ones((64, 96, 1), np.uint8)
    plain, shadowed = (
        augment(frame, masks, FLIP_ONLY.model_copy(update={"shadow": share}), np.random.default_rng(0))[0]
        for share in (0.0, 1.0)
    )
    assert (shadowed <= plain + 1e-6).all()
    assert shadowed[-1].sum() < 0.98 * plain[-1].sum()
