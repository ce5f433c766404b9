"""A GPU that the service can use is a device with the package that uses it."""

from pathlib import Path

import pytest

from service.resources import gpu_detection
from service.resources.gpu_detection import has_gpu


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        (None, None, False),
        ("nvidia0", None, True),
        ("nvidia0", "0", True),
        ("nvidia0", "", False),
        ("nvidia0", "-1", False),
    ],
)
def test_a_gpu_is_a_device_that_is_not_hidden(monkeypatch, tmp_path: Path, device, visible, expected) -> None:
    (tmp_path / "nvidiactl").touch()  # it exists without a GPU too
    if device:
        (tmp_path / device).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_detection, "GPU_PACKAGE", "numpy")  # stands for onnxruntime-gpu
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert has_gpu(tmp_path) is expected
    monkeypatch.setattr(gpu_detection, "GPU_PACKAGE", "a package that is not installed")
    assert not has_gpu(tmp_path)
