"""The exported network predicts what the Keras model predicts."""

import numpy as np
import pytest

from service.inference.runtime_selection import open_runtime
from training.models.onnx_export import export_onnx
from training.models.unet import build_unet
from training.workspace.nerve_parameters import InputParameters, Net

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of TensorFlow and tf2onnx


@pytest.mark.parametrize(
    ("heads", "stem"), [(["mask"], 1), (["mask", "presence"], 1), (["mask", "presence", "deep_supervision"], 2)]
)
def test_the_exported_network_equals_the_model(tmp_path, heads, stem):
    net = Net(filters=[8, 16, 32], stem=stem, batch_norm=True, heads=heads)
    model = build_unet(net, InputParameters(height=32, width=48, normalization="frame"))
    export_onnx(model, tmp_path / "unet.onnx")
    frames = np.random.default_rng(0).normal(size=(3, 32, 48, 1)).astype(np.float32)
    mask, presence = open_runtime(tmp_path)(frames)
    expected = model(frames)
    assert (mask.shape, presence.shape) == ((3, 32, 48, 1), (3,))
    np.testing.assert_allclose(mask, expected["mask"], atol=1e-5)
    np.testing.assert_allclose(presence, np.ravel(expected["presence"]), atol=1e-5)
