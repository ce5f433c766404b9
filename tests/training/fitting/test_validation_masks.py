"""Images of validation masks in MLflow."""

import mlflow
import numpy as np
import pytest

from tests.training.fitting.tiny_candidate import SIZE, TINY_NET, make_discs
from training.data.prepared_arrays import FrameArrays
from training.fitting.validation_masks import ValidationMasks
from training.models.unet import build_unet


@pytest.fixture
def logged_epochs(monkeypatch):
    epochs = []

    def log_image(image, key, step):
        assert image.dtype == np.uint8 and image.shape[-1] == 3
        epochs.append(step)

    monkeypatch.setattr(mlflow, "log_image", log_image)
    return epochs


@pytest.mark.slow
def test_about_ten_images_are_logged_and_one_after_the_last_epoch(logged_epochs):
    callback = ValidationMasks(make_discs(20))
    assert len(callback.frames) == 6
    assert callback.truth.any(axis=(1, 2)).sum() == 5  # one frame without a nerve
    callback.set_model(build_unet(TINY_NET, SIZE))
    callback.set_params({"epochs": 25})
    for epoch in range(25):
        callback.on_epoch_end(epoch)
    assert logged_epochs == [*range(0, 25, 2)]


def test_validation_frames_without_a_nerve_are_shown_too():
    frames, masks = make_discs(6)
    assert len(ValidationMasks(FrameArrays(frames, np.zeros_like(masks))).frames) == 1
