"""Runtimes: thread safety, test-time augmentation, privacy, and the choice between GPU and CPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.inference.gpu_runtimes import gpu_providers
from service.inference.runtime_selection import open_runtime
from service.inference.tta import FlipTta

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TWO_THREADS = """
import sys, threading
from pathlib import Path
import numpy as np
from service.inference.openvino_runtime import OpenVinoRuntime

runtime = OpenVinoRuntime(Path(sys.argv[1]), "float32")
sys.setswitchinterval(1e-7)  # threads interrupt each other as often as possible
barrier = threading.Barrier(2)

def run():
    barrier.wait()
    runtime(np.zeros((1, 48, 64, 1), np.float32))

threads = [threading.Thread(target=run) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
OPEN_CPU_RUNTIME = """
import sys
from pathlib import Path
from service.inference.runtime_selection import open_cpu_runtime

open_cpu_runtime(Path(sys.argv[1]), "float32")
"""


def test_two_threads_do_not_deadlock_at_the_first_inference(model_folder) -> None:
    """Without the warm-up in OpenVinoRuntime, a third of these processes hung (openvino 2026.4.0, 2 cores)."""
    for _ in range(10):
        subprocess.run(
            [sys.executable, "-c", TWO_THREADS, model_folder / "unet.onnx"], cwd=ROOT, check=True, timeout=60
        )


def test_flip_tta_flips_the_second_mask_back() -> None:
    class LeftEdgeRuntime:
        """Predicts the four leftmost columns of the frame; presence is the top left pixel."""

        device, precision = "a test", "float32"

        def __call__(self, batch: np.ndarray, all_cores: bool = True) -> tuple[np.ndarray, np.ndarray]:
            left = (np.arange(batch.shape[2]) < 4)[:, np.newaxis]
            return batch * left, batch[:, 0, 0, 0]

    batch = np.random.default_rng(1).random((3, 8, 12, 1), np.float32)
    mask, presence = FlipTta(LeftEdgeRuntime())(batch)
    np.testing.assert_allclose(mask[:, :, :4], batch[:, :, :4] / 2)
    np.testing.assert_allclose(mask[:, :, -4:], batch[:, :, -4:] / 2)
    assert not mask[:, :, 4:-4].any()
    np.testing.assert_allclose(presence, (batch[:, 0, 0, 0] + batch[:, 0, -1, 0]) / 2)


def test_openvino_sends_no_usage_data(model_folder, tmp_path) -> None:
    """By default OpenVINO writes an identifier into the home folder, and sends it out."""
    command = [sys.executable, "-c", OPEN_CPU_RUNTIME, model_folder]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_gpu_is_logged_and_the_cpu_is_used(model_folder, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # its import fails, even where it is installed
    monkeypatch.setattr("service.inference.gpu_runtimes.gpu_name", lambda: "a GPU")
    runtime = open_runtime(model_folder)
    assert runtime.device.startswith("CPU") and runtime.precision == "float32"
    assert "install nervemask[gpu]" in caplog.text


def test_a_gpu_uses_tensorrt_where_its_library_is_installed(model_folder, monkeypatch) -> None:
    network = model_folder / "unet.onnx"
    (cuda, options), cpu = gpu_providers(network, "float32")
    assert (cuda, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert all(isinstance(value, str) for value in options.values())
    monkeypatch.setattr("service.inference.gpu_runtimes.TENSORRT_LIBRARY", "libc.so.6")  # one that exists
    monkeypatch.setenv("BENTOML_HOME", "/a/folder")
    (tensorrt, options), (cuda, _), cpu = gpu_providers(network, "float16")
    assert tensorrt == "TensorrtExecutionProvider"
    assert options["trt_profile_max_shapes"] == "frame:16x48x64x1"
    assert (options["trt_fp16_enable"], options["trt_engine_cache_path"]) == ("True", "/a/folder")
