"""The runtime under threads."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from service.runtime import Twice
from tests.frames import speckle

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


class Answers:
    """A network that answers what `of` makes of a batch."""

    device, precision = "a test", "float32"

    def __init__(self, of: Callable[[np.ndarray], np.ndarray]):
        self.of = of

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        return self.of(batch), batch.max(axis=(1, 2, 3))


def test_what_is_seen_twice_comes_back_where_it_belongs() -> None:
    """A network that answers the frame itself must answer it from both looks."""
    frames = np.stack([cv2.GaussianBlur(speckle(seed, 48, 64), (0, 0), 4) for seed in range(2)]) / np.float32(255)
    mask, presence = Twice(Answers(lambda batch: batch))(frames[..., np.newaxis])
    assert mask.dtype == np.float32 and mask.shape == (2, 48, 64, 1)
    np.testing.assert_allclose(mask[..., 0], frames, atol=0.02)
    np.testing.assert_allclose(presence, frames.max(axis=(1, 2)), atol=0.05)  # the rim may hold the brightest


def test_the_second_look_is_mirrored_and_from_nearer() -> None:
    """A network that sees nerve in the left half alone: half of what both looks can see, on either side, but at the
    rim, which is outside the second look, what the first has said."""
    mask, _ = Twice(Answers(lambda batch: np.ones_like(batch) * (np.arange(60) < 30)[:, np.newaxis]))(
        np.zeros((1, 40, 60, 1), np.float32)
    )
    middle = mask[0, 20, :, 0]
    rim = 6  # of 60: a fifth of the width is out of sight from 1.25 times as near
    assert (middle[:rim] == 1).all() and (middle[-rim:] == 0).all()
    assert (middle[rim + 1 : 29] == 0.5).all() and (middle[31 : -rim - 1] == 0.5).all()
    assert (mask[0, :2, :30, 0] == 1).all() and (mask[0, :2, 30:, 0] == 0).all()


def test_openvino_tells_nobody_of_its_use(model_folder, tmp_path) -> None:
    """Left to itself it leaves an identifier in the home folder, and sends it out."""
    use = (
        f"from pathlib import Path; from service.runtime import on_cpu; on_cpu(Path({str(model_folder)!r}), 'float32')"
    )
    subprocess.run([sys.executable, "-c", use], cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
