"""What a CPU computes in: which precisions are as good as the trained net, and what 8 bits leave alone."""

import numpy as np
import pytest

from training import precision
from training.parameters import candidate
from training.precision import FLOATING, INT8, as_good, quantise
from training.train_unet import export


@pytest.mark.parametrize(
    ("frames", "fall", "noise", "good"),
    [
        (200, 0.0, 0.0, True),
        (200, 0.001, 0.01, True),
        (200, 0.01, 0.01, False),
        (200, -0.01, 0.01, True),  # it is better
        (26, 0.004, 0.03, True),  # as far as 26 frames can tell
        (26, 0.02, 0.03, False),
    ],
)
def test_a_fall_counts_where_it_stands_out_of_its_noise(frames, fall, noise, good):
    change = np.resize([noise, -noise], frames) - fall
    assert as_good(change) is good


@pytest.mark.filterwarnings("ignore")  # TensorFlow's and tf2onnx's own
def test_int8_leaves_the_first_convolutions_floating(tmp_path, monkeypatch):
    import openvino

    from training.unet import build

    light = candidate("light")
    frames = np.random.default_rng(0).normal(size=(4, light.input.height, light.input.width)).astype(np.float32)
    (tmp_path / "light/train").mkdir(parents=True)
    np.save(tmp_path / "light/train/frames.npy", frames)
    monkeypatch.setattr(precision, "PREPARED", tmp_path)
    export(build(light.net, light.input), tmp_path / "unet.onnx")
    quantise(tmp_path, "light")

    network = openvino.Core().read_model(tmp_path / INT8)
    convolutions = [op for op in network.get_ordered_ops() if op.get_type_name() == "Convolution"]
    floating = [op.input_value(1).get_node().get_type_name() == "Constant" for op in convolutions]  # its weights
    assert 0 < (first := round(FLOATING * len(convolutions))) < len(convolutions)
    assert floating == [True] * first + [False] * (len(convolutions) - first)
