"""The runtime under threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from service.runtime import Mirrored, open_runtime

ROOT = Path(__file__).parent.parent
MEETING = """
import sys, threading
from pathlib import Path
import numpy as np
from service.runtime import OpenVino

runtime = OpenVino(Path(sys.argv[1]), "float32")
sys.setswitchinterval(1e-7)  # so that threads interrupt each other wherever they can
together = threading.Barrier(2)

def ask():
    together.wait()
    runtime(np.zeros((1, 48, 64, 1), np.float32))

threads = [threading.Thread(target=ask) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_threads_that_meet_at_the_first_frame_do_not_wait_for_ever(model_folder) -> None:
    """Without a first frame from one thread, a third of such processes hung (openvino 2026.4.0, 2 cores)."""
    for _ in range(10):
        subprocess.run([sys.executable, "-c", MEETING, model_folder / "unet.onnx"], cwd=ROOT, check=True, timeout=30)


def test_a_mirror_image_is_mirrored_back() -> None:
    class BrightLeft:
        device, precision = "a test", "float32"

        def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
            left = (np.arange(batch.shape[2]) < 4)[:, np.newaxis]
            return batch * left, batch[:, 0, 0, 0]

    batch = np.random.default_rng(1).random((3, 8, 12, 1), np.float32)
    mask, presence = Mirrored(BrightLeft())(batch)
    np.testing.assert_allclose(mask[:, :, :4], batch[:, :, :4] / 2)
    np.testing.assert_allclose(mask[:, :, -4:], batch[:, :, -4:] / 2)
    assert not mask[:, :, 4:-4].any()
    np.testing.assert_allclose(presence, (batch[:, 0, 0, 0] + batch[:, 0, -1, 0]) / 2)


def test_openvino_tells_nobody_of_its_use(model_folder, tmp_path) -> None:
    """Left to itself it leaves an identifier in the home folder, and sends it out."""
    use = (
        f"from pathlib import Path; from service.runtime import on_cpu; on_cpu(Path({str(model_folder)!r}), 'float32')"
    )
    subprocess.run([sys.executable, "-c", use], cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_cannot_be_used_is_told_of_and_the_cpu_answers(model_folder, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # not to be imported, wherever this runs
    monkeypatch.setattr("service.runtime.gpu_name", lambda: "a GPU")
    runtime = open_runtime(model_folder)
    assert runtime.device.startswith("CPU") and runtime.precision == "float32"
    assert "install nervemask[gpu]" in caplog.text
