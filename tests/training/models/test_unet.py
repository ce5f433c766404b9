"""The U-nets that params.yaml describes."""

from typing import get_args

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from service.inference.runtime_selection import open_runtime
from training.models.efficientnet import ENCODER_PREFIX
from training.models.onnx_export import export_onnx
from training.models.unet import ENCODERS, PRESENCE_POOL_PX, build_unet
from training.workspace import nerve_parameters
from training.workspace.learning_rate_schedule import learning_rate
from training.workspace.nerve_parameters import Encoder, InputParameters, Net

pytestmark = pytest.mark.slow

ENCODER_NET = Net(
    filters=[8, 8, 8, 8], stem=2, batch_norm=True, heads=["mask", "presence"], encoder="efficientnet_lite0"
)


def test_the_lecture_network_has_the_lecture_s_number_of_weights():
    lecture = nerve_parameters.read_candidate("lecture")
    assert build_unet(lecture.net, lecture.input).count_params() == 7_759_521


def test_the_lecture_recipe_has_the_lecture_s_learning_rates():
    phases = nerve_parameters.read_candidate("lecture").recipe.phases
    assert [learning_rate(phases, epoch) for epoch in (0, 49, 50, 69)] == [1e-5, 1e-5, 1e-6, 1e-6]


@pytest.mark.parametrize("name", nerve_parameters.read_nerve_parameters().unets)
def test_each_candidate_s_mask_has_the_size_of_its_input(name):
    candidate = nerve_parameters.read_candidate(name)
    heads = build_unet(candidate.net, candidate.input).output
    expected = ["mask", "presence"]  # without its own head, presence is computed from the mask
    expected += [head for head in ("vessel",) if head in candidate.net.heads]
    if "deep_supervision" in candidate.net.heads:
        expected += ["deep_supervision_16", "deep_supervision_8", "deep_supervision_4"]
    assert list(heads) == expected
    assert heads["mask"].shape == (None, candidate.input.height, candidate.input.width, 1)
    assert heads["presence"].shape == (None, 1)


def test_presence_without_its_head_is_the_peak_of_the_mask():
    net = Net(filters=[4, 8], stem=1, batch_norm=False, heads=["mask"])
    frames = np.random.default_rng(0).normal(size=(3, 16, 24, 1)).astype(np.float32)
    predicted = build_unet(net, InputParameters(height=16, width=24, normalization="frame"))(frames)
    mask = np.asarray(predicted["mask"]).reshape(3, 16 // PRESENCE_POOL_PX, PRESENCE_POOL_PX, -1, PRESENCE_POOL_PX)
    np.testing.assert_allclose(np.ravel(predicted["presence"]), mask.mean(axis=(2, 4)).max(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "invalid", [{"stem": 1}, {"filters": [8, 8, 8]}, {"encoder": None, "encoder_weights": "imagenet"}]
)
def test_a_network_that_does_not_fit_its_encoder_is_rejected(invalid):
    with pytest.raises(ValidationError):
        Net(**ENCODER_NET.model_dump() | invalid)


def test_every_encoder_of_the_parameters_can_be_built():
    assert set(ENCODERS) == set(get_args(Encoder))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_halves_its_input_five_times(encoder):
    """It returns four skip connections and the bottleneck, and its layers have the prefix of encoder layers."""
    frame = keras.Input((64, 96, 1))
    skips, bottleneck = ENCODERS[encoder](frame)
    assert [tuple(skip.shape[1:3]) for skip in skips] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert tuple(bottleneck.shape[1:3]) == (2, 3)
    layers = [layer for layer in keras.Model(frame, [*skips, bottleneck]).layers if layer.weights]
    assert [layer.name for layer in layers if not layer.name.startswith(ENCODER_PREFIX)] == []


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_network_with_each_encoder_predicts_and_is_exported(encoder, tmp_path):
    net = Net(**ENCODER_NET.model_dump() | {"encoder": encoder})
    model = build_unet(net, InputParameters(height=64, width=96, normalization="frame"))
    frames = np.random.default_rng(0).normal(size=(2, 64, 96, 1)).astype(np.float32)
    expected = model(frames, training=False)
    export_onnx(model, tmp_path / "unet.onnx")
    mask, presence = open_runtime(tmp_path)(frames)
    assert mask.shape == (2, 64, 96, 1)
    np.testing.assert_allclose(mask, expected["mask"], atol=1e-4)
    np.testing.assert_allclose(presence, np.ravel(expected["presence"]), atol=1e-4)
