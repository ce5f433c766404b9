"""The service with dynamic batching in float16, with ONNX Runtime on the CPU in place of a GPU."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from service.decoding.frame import Frame
from service.inference.onnx_runtime import OnnxRuntime
from service.inference.segmenter import Segmenter
from service.inference.self_test import write_self_test
from service.model.card import Card
from tests.conftest import RunningServer, patched
from tests.frames import png
from training.release.float16_conversion import FLOAT16, convert_to_float16

pytestmark = pytest.mark.server

ON_CPU = """
from service.inference import onnx_runtime, runtime_selection
from service.inference.dynamic_batching import BATCH_SIZES
from service.model.card import NETWORK_FILES
runtime_selection.open_gpu_runtimes = lambda folder, precision: dict.fromkeys(
    BATCH_SIZES, onnx_runtime.OnnxRuntime(folder / NETWORK_FILES[precision], precision, [onnx_runtime.CPU])
)
"""
SIZES = ((60, 80), (100, 120), (420, 580), (64, 200))  # of frames: rows, columns


@pytest.fixture(scope="module")
def float16_folder(card: Card, model_folder: Path, tmp_path_factory, speckle) -> Path:
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("float16") / "champion"))
    convert_to_float16(folder)
    replace(card, gpu_precision="float16").write(folder)
    write_self_test(folder, np.stack([speckle(seed, 60, 80) for seed in range(3)]))
    return folder


@pytest.fixture(scope="module")
def server(float16_folder: Path, tmp_path_factory) -> Iterator[RunningServer]:
    with patched(ON_CPU, float16_folder, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def frames(speckle) -> list[np.ndarray]:
    return [speckle(seed, *SIZES[seed % len(SIZES)]) for seed in range(12)]


def test_the_model_names_its_precision(server: RunningServer) -> None:
    model = httpx.get(f"{server.address}/model").json()
    assert model["gpu_precision"] == "float16"
    assert "onnxruntime" in model["device"] and "float16" in model["device"]


def test_frames_of_many_sizes_at_once_get_their_own_masks(server: RunningServer, frames, float16_folder: Path) -> None:
    """Some clients disconnect while their frames wait: the others get their masks all the same."""
    segmenter = Segmenter(float16_folder, "float16")
    expected = [segmenter.segment(Frame(pixels)).mask for pixels in frames]

    async def send_all() -> list[tuple[int, bytes]]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=server.address, timeout=120, limits=limits) as client:

            async def send(number: int) -> tuple[int, bytes]:
                content = png(frames[number % len(frames)])
                response = await client.post("/mask", content=content, headers={"content-type": "image/png"})
                assert response.status_code == 200, response.text
                return number, response.content

            tasks = [asyncio.create_task(send(number)) for number in range(60)]
            await asyncio.sleep(0.2)
            for task in tasks[::5]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return [result for result in results if not isinstance(result, asyncio.CancelledError)]

    results = asyncio.run(send_all())
    assert len(results) >= 48
    for number, content in results:
        mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.mean(mask != expected[number % len(frames)]) < 0.001


def test_a_gpu_that_fails_leaves_the_network_to_the_cpu(float16_folder: Path, monkeypatch, caplog) -> None:
    def fail(folder: Path, precision: str) -> dict[int, OnnxRuntime]:
        raise RuntimeError("the GPU's memory is full")

    monkeypatch.setattr("service.inference.runtime_selection.open_gpu_runtimes", fail)
    segmenter = Segmenter(float16_folder)
    assert segmenter.runtime.device.startswith("CPU")
    assert "the network does not run on the NVIDIA GPU: the GPU's memory is full" in caplog.text


def test_a_folder_without_the_network_for_gpus_is_refused(float16_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(float16_folder, tmp_path / "champion"))
    (folder / FLOAT16).unlink()
    with pytest.raises(Exception, match=FLOAT16):
        Card.read(folder)
