"""Frame and mask move together, and the same seed gives the same batches."""

import numpy as np
import pytest

from training.augment import Batches, augment
from training.parameters import Augment, Phase, Recipe

STRONG = Augment(shift=0.2, zoom=0.3, rotate=30, gain=0.0, speckle=0.0, elastic=0.01)
STILL = Augment(shift=0, zoom=0, rotate=0, gain=0, speckle=0)


@pytest.mark.parametrize("elastic", [0.0, 0.01])
def test_a_mask_follows_its_frame(elastic):
    rng = np.random.default_rng(0)
    frame = np.zeros((64, 96), np.float32)
    frame[20:44, 30:60] = 1.0
    masks = frame.astype(np.uint8)[..., np.newaxis]
    for _ in range(20):
        moved, moved_masks = augment(frame, masks, STRONG.model_copy(update={"elastic": elastic}), rng)
        agree = np.mean((moved >= 0.5) == (moved_masks[..., 0] > 0))
        assert agree > 0.99
    assert set(np.unique(moved_masks)) <= {0, 1}
    assert np.mean((moved > 0.1) & (moved < 0.9)) > 0.01  # between pixels, greys are interpolated


def test_greys_change_and_masks_do_not():
    rng = np.random.default_rng(0)
    frame = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    masks = np.ones((64, 96, 2), np.uint8)
    greys = STILL.model_copy(update={"gain": 0.3, "speckle": 0.2})
    changed, same = augment(frame, masks, greys, rng)
    assert np.array_equal(same, masks)
    assert not np.allclose(np.abs(changed), np.abs(frame), atol=0.05)


@pytest.mark.parametrize("part", [{"gamma": 0.5}, {"sliders": 0.4}, {"shadow": 1.0}, {"blur": 2.0}, {"elastic": 0.02}])
def test_every_part_does_something_and_leaves_black_black(part):
    frame = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    frame[:, :20] = frame[:, -20:] = frame.min()
    masks = np.ones((64, 96, 1), np.uint8)
    strength = STILL.model_copy(update=part)
    made = [
        [augment(frame, masks, one, np.random.default_rng(seed))[0] for one in (STILL, strength)] for seed in range(8)
    ]
    assert any(np.abs(still - changed).mean() > 0.01 for still, changed in made)
    assert all(changed.min() == pytest.approx(frame.min(), abs=1e-4) for _, changed in made)


def test_a_shadow_only_darkens():
    frame = np.random.default_rng(1).random((64, 96)).astype(np.float32)
    masks = np.ones((64, 96, 1), np.uint8)
    lit, shadowed = (
        augment(frame, masks, STILL.model_copy(update={"shadow": share}), np.random.default_rng(0))[0]
        for share in (0.0, 1.0)
    )
    assert (shadowed <= lit + 1e-6).all()
    assert shadowed[-1].sum() < 0.98 * lit[-1].sum()


def batches(seed: int) -> Batches:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(10, 32, 48)).astype(np.float32)
    masks = (rng.random((10, 32, 48, 1)) > 0.9).astype(np.uint8)
    recipe = Recipe(loss="soft_dice", batch=4, steps=5, augment=STRONG, phases=[Phase(epochs=1, learning_rate=1)])
    return Batches(frames, masks, recipe, ["mask", "presence"], seed)


def test_batches_depend_on_the_seed_alone_and_not_on_the_order_they_are_made_in():
    one, other = batches(1), batches(1)
    assert len(one) == 5
    in_order = [one[i][0] for i in range(5)]
    reversed_order = [other[i][0] for i in reversed(range(5))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(in_order, reversed_order, strict=True))
    assert not np.array_equal(in_order[0], batches(2)[0][0])


def test_an_epoch_of_more_steps_than_frames_draws_every_frame_again():
    drawn = batches(1).order
    assert len(drawn) == 20
    assert np.array_equal(np.sort(drawn[:10]), np.arange(10))


def test_epochs_differ():
    made = batches(1)
    first = made[0][0]
    made.on_epoch_end()
    assert not np.array_equal(first, made[0][0])
