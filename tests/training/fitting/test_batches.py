"""Batches depend on the seed and the epoch only."""

import numpy as np

from training.data import sharded_array
from training.data.prepared_arrays import FrameArrays
from training.fitting.batches import TrainingBatches, head_targets
from training.workspace.nerve_parameters import Augmentation, Phase, Recipe


def make_batches(seed: int) -> TrainingBatches:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(10, 32, 48)).astype(np.float32)
    masks = (rng.random((10, 32, 48, 1)) > 0.9).astype(np.uint8)
    recipe = Recipe(
        loss="soft_dice",
        batch_size=4,
        steps_per_epoch=5,
        augment=Augmentation(shift=0.2, zoom=0.3, rotate=30, gain=0.0, speckle=0.0, elastic=0.01),
        phases=[Phase(epochs=1, learning_rate=1)],
    )
    return TrainingBatches(FrameArrays(frames, masks), recipe, ["mask", "presence"], seed)


def test_the_same_seed_gives_the_same_batches_in_any_order_of_their_making():
    batches, same_batches = make_batches(1), make_batches(1)
    assert len(batches) == 5
    forwards = [batches[i][0] for i in range(5)]
    backwards = [same_batches[i][0] for i in reversed(range(5))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not np.array_equal(forwards[0], make_batches(2)[0][0])


def test_an_epoch_with_more_steps_than_frames_uses_every_frame_again():
    order = make_batches(1).order
    assert len(order) == 20
    assert np.array_equal(np.sort(order[:10]), np.arange(10))


def test_an_epoch_over_a_part_of_many_shards_takes_any_frames(monkeypatch):
    monkeypatch.setattr(sharded_array, "SHARD_ROWS", 2)
    monkeypatch.setattr(sharded_array, "WINDOW_SHARDS", 1)
    arrays = FrameArrays(np.zeros((1000, 8, 8), np.float32), np.zeros((1000, 8, 8, 1), np.uint8))
    recipe = Recipe(loss="soft_dice", batch_size=4, steps_per_epoch=5, phases=[Phase(epochs=1, learning_rate=1)])
    order = TrainingBatches(arrays, recipe, ["mask"], 1).order
    assert len(set(order // 2)) > 15  # of 20 frames; a window of one shard would give 10


def test_epochs_differ():
    batches = make_batches(1)
    first = batches[0][0]
    batches.on_epoch_end()
    assert not np.array_equal(first, batches[0][0])


def test_targets_of_the_heads():
    masks = np.zeros((2, 4, 6, 2), np.uint8)
    masks[0, 1, 1, 0] = masks[1, 2, 2, 1] = 1
    targets = head_targets(masks, ["mask", "presence", "vessel", "deep_supervision_4"])
    assert all(target.dtype == np.float32 for target in targets.values())
    np.testing.assert_array_equal(targets["presence"], [[1], [0]])
    np.testing.assert_array_equal(targets["mask"], masks[..., :1])
    np.testing.assert_array_equal(targets["deep_supervision_4"], masks[..., :1])
    np.testing.assert_array_equal(targets["vessel"], masks[..., 1:])
