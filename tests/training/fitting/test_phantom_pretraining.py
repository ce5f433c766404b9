"""Synthetic pre-training on phantom frames comes before the first epoch."""

import numpy as np
import pytest

from tests.training.fitting.tiny_candidate import SIZE, make_candidate, make_discs, make_recipe
from training.fitting import phantom_pretraining
from training.fitting.phantom_pretraining import phantom_arrays
from training.fitting.trainer import train
from training.workspace.nerve_parameters import Phase

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of TensorFlow


@pytest.fixture(autouse=True)
def two_subjects(monkeypatch):
    monkeypatch.setattr(phantom_pretraining, "SUBJECTS", 2)


def test_phantom_arrays_are_normalised_frames_with_both_masks():
    frames, masks = phantom_arrays(SIZE, 2)
    assert (frames.shape, frames.dtype) == ((8, 32, 48), np.float32)
    assert (masks.shape, masks.dtype) == ((8, 32, 48, 2), np.uint8)
    assert abs(frames.mean()) < 0.01
    assert masks.any(axis=(0, 1, 2)).all()


@pytest.mark.training
def test_pretraining_changes_the_weights_before_the_first_epoch(eager_keras):
    """The recipe's own learning rate is too small to change them."""
    phases = [Phase(epochs=1, learning_rate=1e-12)]
    splits = {"train": make_discs(8), "validation": make_discs(8, seed=1)}

    def train_weights(pretraining_epochs: int) -> list[np.ndarray]:
        recipe = make_recipe(1, phases=phases, phantom_pretraining_epochs=pretraining_epochs, steps_per_epoch=2)
        return train(make_candidate(recipe), splits, seed=1)[0].get_weights()

    differences = [
        np.abs(with_ - without).max() for with_, without in zip(train_weights(1), train_weights(0), strict=True)
    ]
    assert max(differences) > 1e-4
