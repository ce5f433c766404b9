"""Which precisions are as good as the Keras network, and which convolutions stay in floating point."""

import numpy as np
import openvino
import pytest

from training.data.sharded_array import shard_name
from training.models.onnx_export import export_onnx
from training.models.unet import build_unet
from training.release.int8_quantization import FLOATING_POINT_SHARE, INT8, quantize
from training.release.precision_choice import is_as_good
from training.workspace import paths
from training.workspace.nerve_parameters import read_candidate


@pytest.mark.parametrize(
    ("frames", "drop", "noise", "good"),
    [
        (200, 0.0, 0.0, True),
        (200, 0.001, 0.01, True),
        (200, 0.01, 0.01, False),
        (200, -0.01, 0.01, True),  # an improvement
        (26, 0.004, 0.03, True),  # within the standard error of 26 frames
        (26, 0.02, 0.03, False),
    ],
)
def test_a_drop_of_dice_counts_if_it_is_larger_than_its_noise(frames, drop, noise, good):
    change = np.resize([noise, -noise], frames) - drop
    assert is_as_good(change) is good


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TensorFlow and tf2onnx
def test_int8_keeps_the_first_convolutions_in_floating_point(tmp_path, monkeypatch):
    light = read_candidate("light")
    frames = np.random.default_rng(0).normal(size=(4, light.input.height, light.input.width)).astype(np.float32)
    for array, values in (("frames", frames), ("masks", np.zeros((*frames.shape, 1), np.uint8))):
        (tmp_path / "light/train" / array).mkdir(parents=True)
        np.save(tmp_path / "light/train" / array / shard_name(0), values)
    monkeypatch.setattr(paths, "PREPARED", tmp_path)
    export_onnx(build_unet(light.net, light.input), tmp_path / "unet.onnx")
    quantize(tmp_path, "light")

    network = openvino.Core().read_model(tmp_path / INT8)
    convolutions = [op for op in network.get_ordered_ops() if op.get_type_name() == "Convolution"]
    weights = [op.input_value(1).get_node() for op in convolutions]
    floating_point = [node.get_type_name() == "Constant" for node in weights]  # 8-bit weights are converted first
    assert 0 < (first := round(FLOATING_POINT_SHARE * len(convolutions))) < len(convolutions)
    assert floating_point == [True] * first + [False] * (len(convolutions) - first)
