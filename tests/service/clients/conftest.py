"""Fixtures of the clients' tests: a batch client to call, frames in several formats, a proxy, an Orthanc server."""

import logging
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import httpx
import numpy as np
import pytest

from service.client import main
from service.clients.bridge_http_client import BridgeHttpClient
from service.clients.orthanc_bridge import OrthancBridge
from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.service.clients.orthanc_server import Orthanc, running_orthanc
from tests.service.clients.proxy_server import Proxy, running_proxy

CINE_FRAMES = 30


class ConsoleOutput(NamedTuple):
    """What a call of the batch client prints."""

    stdout: str
    stderr: str


@pytest.fixture
def call_client(tmp_path, monkeypatch, capsys) -> Callable[..., ConsoleOutput]:
    """call_client(*arguments, server, status): call the batch client in an empty folder; it must exit with `status`."""
    monkeypatch.chdir(tmp_path)

    def call_client(*arguments: str, server: str, status: int = 0) -> ConsoleOutput:
        monkeypatch.setenv("NERVEMASK_SERVER", server)
        monkeypatch.setattr(sys, "argv", ["client", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        output = ConsoleOutput(*capsys.readouterr())
        assert exit_info.value.code == status, output.stderr
        return output

    return call_client


@pytest.fixture
def run_client(call_client, address) -> Callable[..., ConsoleOutput]:
    """run_client(*arguments, server, status): as call_client, by default with the real server."""
    return partial(call_client, server=address)


@pytest.fixture(scope="session")
def frame_files(speckle) -> dict[str, bytes]:
    """The bytes of one frame as a file of each type, by suffix. The DICOM file has pixels of 0.1 x 0.2 mm."""
    pixels = speckle(3, 120, 160)
    pictures = {suffix: cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".png", ".jpg", ".tif")}
    regions = [make_region(0, 0, 159, 119)]
    return pictures | {".dcm": to_bytes(make_ultrasound(pixels, SequenceOfUltrasoundRegions=regions))}


@pytest.fixture(scope="session")
def cine_file(speckle) -> bytes:
    """A DICOM cine of CINE_FRAMES frames."""
    return to_bytes(make_ultrasound(np.stack([speckle(seed, 120, 160) for seed in range(CINE_FRAMES)])))


@pytest.fixture
def proxy(address) -> Iterator[Proxy]:
    with running_proxy(address) as proxy:
        yield proxy


@pytest.fixture
def orthanc(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Orthanc]:
    """param: seconds without a change after which Orthanc calls a study stable; 1 by default."""
    if not shutil.which("storescu"):
        pytest.skip("storescu is not installed (Debian's package dcmtk)")
    with running_orthanc(tmp_path, getattr(request, "param", 1)) as server:
        yield server


@pytest.fixture
def bridge_once(orthanc: Orthanc, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """bridge_once(): run the bridge up to the last change; return its log."""
    stop = threading.Event()
    bridge = OrthancBridge(
        BridgeHttpClient("Orthanc", httpx.URL(orthanc.address), None, stop, once=True),
        BridgeHttpClient("the service", httpx.URL(address), None, stop, once=True),
    )

    def run() -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "nervemask.bridge"):
            bridge.run(tmp_path / "state", once=True)
        return caplog.text

    return run


def write_file(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def list_files(folder: str) -> set[str]:
    """Return all files below a folder, hidden and partial ones too."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def post(client: httpx.Client, route: str, data: bytes, **headers: str) -> httpx.Response:
    """Return the service's own response to a file."""
    response = client.post(route, content=data, headers={"content-type": "application/octet-stream", **headers})
    assert response.status_code == 200, response.text
    return response
