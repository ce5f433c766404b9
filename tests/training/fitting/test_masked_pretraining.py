"""Masked-image pre-training reconstructs hidden squares."""

import keras
import pytest

from tests.training.fitting.tiny_candidate import SIZE, TINY_NET, make_discs, make_recipe
from training.fitting.masked_pretraining import MaskedFrameBatches, pretrain_on_masked_frames
from training.models.unet import build_unet

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of TensorFlow


def test_a_batch_hides_squares_and_its_targets_are_complete_frames():
    inputs, targets = MaskedFrameBatches(make_discs(16)[0], make_recipe(1), seed=2)[0]
    assert inputs.shape == targets.shape == (8, 32, 48, 1)
    assert 0.2 < (inputs == 0).mean() < 0.8
    assert targets.min() >= 0 and targets.max() <= 1


@pytest.mark.training
def test_pretraining_reconstructs_better_than_the_mean():
    frames, _ = make_discs(16)
    inputs, targets = MaskedFrameBatches(frames, make_recipe(1), seed=2)[0]
    model = build_unet(TINY_NET, SIZE)
    pretrain_on_masked_frames(model, frames, make_recipe(1, masked_pretraining_epochs=15), 1, keras.optimizers.Adam())
    reconstruction = model(inputs)["mask"].numpy()
    mean_grey = 0.5
    assert ((reconstruction - targets) ** 2).mean() < ((mean_grey - targets) ** 2).mean()
