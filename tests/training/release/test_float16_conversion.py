"""The network that computes as a GPU does in float16."""

import shutil

import numpy as np

from service.inference.onnx_runtime import CPU, OnnxRuntime
from training.release.float16_conversion import FLOAT16, convert_to_float16, write_rounding_network


def test_the_output_of_each_layer_is_rounded_to_float16(model_folder, tmp_path) -> None:
    shutil.copy(model_folder / "unet.onnx", tmp_path)
    write_rounding_network(tmp_path, tmp_path / "rounding.onnx")
    batch = np.random.default_rng(0).normal(size=(2, 48, 64, 1)).astype(np.float32)
    exact, rounded = (
        OnnxRuntime(tmp_path / name, "float32", [CPU])(batch)[0] for name in ("unet.onnx", "rounding.onnx")
    )
    assert np.array_equal(rounded, rounded.astype(np.float16))
    assert not np.array_equal(exact, exact.astype(np.float16))
    np.testing.assert_allclose(rounded, exact, atol=0.002)


def test_the_float16_network_takes_and_returns_float32(model_folder, tmp_path) -> None:
    shutil.copy(model_folder / "unet.onnx", tmp_path)
    convert_to_float16(tmp_path)
    batch = np.random.default_rng(0).normal(size=(2, 48, 64, 1)).astype(np.float32)
    mask, presence = OnnxRuntime(tmp_path / FLOAT16, "float16", [CPU])(batch)
    assert (mask.dtype, presence.dtype, presence.shape) == (np.float32, np.float32, (2,))
