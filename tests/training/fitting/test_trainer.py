"""Training on tiny arrays: tiny candidates learn, and each entry of params.yaml trains."""

import numpy as np
import pandas as pd
import pytest

from tests.training.fitting.tiny_candidate import make_candidate, make_discs, make_recipe
from training.data.prepared_arrays import FrameArrays
from training.fitting.trainer import train, trainable_heads
from training.models.losses import dice
from training.workspace import nerve_parameters
from training.workspace.nerve_parameters import InputParameters, Phase

pytestmark = [
    pytest.mark.training,
    pytest.mark.filterwarnings("ignore"),  # warnings of TensorFlow and tf2onnx
]


@pytest.mark.parametrize("name", nerve_parameters.read_nerve_parameters().unets)
def test_every_candidate_trains(name, eager_keras):
    """One step on frames as small as the network allows; tests/training/models/test_unet.py builds the full size."""
    candidate = nerve_parameters.read_candidate(name)
    height, width = 64, 96
    frames = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    masks = np.zeros((2, height, width, 2), np.uint8)
    masks[0, 20:40, 30:70, 0] = masks[1, 10:30, 20:40, 1] = 1
    recipe = candidate.recipe.model_copy(
        update={"batch_size": 2, "steps_per_epoch": 1, "phases": [Phase(epochs=1, learning_rate=1e-3)]}
    )
    size = InputParameters(height=height, width=width, normalization=candidate.input.normalization)
    arrays = FrameArrays(frames, masks)
    splits = {"train": arrays, "validation": arrays}
    model, history = train(candidate.model_copy(update={"input": size, "recipe": recipe}), splits, seed=1)
    assert np.isfinite(history["val_loss"]).all()
    predicted = model(frames[..., np.newaxis])
    assert tuple(predicted["mask"].shape) == (2, height, width, 1)
    assert tuple(predicted["presence"].shape) == (2, 1)


@pytest.mark.parametrize("change", [{}, {"heads": ["mask"]}])
def test_a_network_overfits_one_batch(change):
    batch = make_discs(8)
    candidate = make_candidate(make_recipe(20), **change)
    _, history = train(candidate, {"train": batch, "validation": batch}, seed=1)
    assert history["val_mask_dice"].iloc[-1] >= 0.95
    assert ("val_presence_loss" in history) is ("presence" in candidate.net.heads)
    assert history.get("val_presence_loss", pd.Series(0.0)).iloc[-1] < 0.1


@pytest.mark.parametrize("nerve", [0, 1])
def test_a_head_without_examples_is_not_trained(nerve):
    heads = ["mask", "presence", "vessel"]
    arrays = FrameArrays(np.zeros((2, 4, 4), np.float32), np.full((2, 4, 4, 2), nerve, np.uint8))
    assert trainable_heads(heads, arrays) == ["mask", "vessel"]
    arrays.masks[0, ..., 0] = 1 - nerve
    assert trainable_heads(heads, arrays) == heads
    assert trainable_heads(heads, arrays._replace(masks=arrays.masks[..., :1])) == ["mask", "presence"]


def test_the_same_seed_gives_the_same_dice(eager_keras):
    splits = {"train": make_discs(16), "validation": make_discs(8, seed=1)}
    augment = nerve_parameters.read_candidate("light").recipe.augment
    recipe = make_recipe(2, steps_per_epoch=3, ema_momentum=0.9, patience=3, augment=augment)
    dice_scores = [train(make_candidate(recipe), splits, seed=5)[1]["val_mask_dice"].to_numpy() for _ in range(2)]
    np.testing.assert_allclose(dice_scores[0], dice_scores[1], atol=1e-3)


def test_early_stopping_keeps_the_best_weights():
    splits = {"train": make_discs(16), "validation": make_discs(8, seed=1)}
    phases = [Phase(epochs=4, learning_rate=1e-2), Phase(epochs=6, learning_rate=3.0)]  # the second destroys the mask
    model, history = train(make_candidate(make_recipe(1, phases=phases, patience=3)), splits, seed=1)
    assert len(history) < 10
    frames, masks = splits["validation"]
    predicted = model(frames[..., np.newaxis])["mask"]
    kept = float(np.mean(dice(masks.astype(np.float32), predicted)))
    best, last = history["val_mask_dice"].max(), history["val_mask_dice"].iloc[-1]
    assert last < best - 0.1, "the last weights are worse: otherwise this test shows nothing"
    assert kept >= best - 0.02


def test_deep_supervision_trains_the_coarser_levels(eager_keras):
    splits = {"train": make_discs(16), "validation": make_discs(8, seed=1)}
    recipe = make_recipe(3, steps_per_epoch=4)
    candidate = make_candidate(recipe, heads=["mask", "presence", "deep_supervision"], filters=[4, 8, 8])
    model, history = train(candidate, splits, seed=1)
    assert list(model.output) == ["mask", "presence", "deep_supervision_4"]
    assert history["val_deep_supervision_4_loss"].iloc[-1] < history["val_deep_supervision_4_loss"].iloc[0]
