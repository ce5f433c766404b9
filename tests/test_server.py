"""The real server, asked over HTTP: every answer, every refusal, many at once, and starts that must fail."""

import asyncio
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from service.answers import png
from service.frame import Frame
from service.guard import AT_ONCE
from service.segmenter import Segmenter
from service.upload import LIMIT_BYTES

ROOT = Path(__file__).parent.parent
PNG = {"content-type": "image/png"}


def start(model: Path, port: int) -> subprocess.Popen[bytes]:
    """`python -m service`, its words kept in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def address(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is ready; it is told to stop afterwards, and must do so."""
    port = free_port()
    said = (tmp_path_factory.mktemp("server") / "log").open("w+b")
    server = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model_folder)},
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(30)
        said.seek(0)
        assert b"Traceback" not in said.read(), said.name


def wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended before it was ready"
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server was not ready within a minute")


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def segmenter(model_folder: Path) -> Segmenter:
    return Segmenter(model_folder)


def picture(pixels: np.ndarray, kind: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def read(answer: httpx.Response) -> np.ndarray:
    """The mask of an answer, uint8 (height, width)."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    mask = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}
    return mask


# What is answered


@pytest.mark.parametrize(("width", "height"), [(580, 420), (761, 632), (16, 16), (1023, 769)])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_mask_has_the_frames_size_and_is_the_segmenters(client, segmenter, speckle, width, height, kind) -> None:
    pixels = speckle(3, height, width)
    answer = client.post("/mask", content=picture(pixels, kind), headers={"content-type": f"image/{kind}"})
    assert np.array_equal(read(answer), segmenter.segment(Frame(pixels)).mask)


def test_a_jpeg_gets_a_mask(client, speckle) -> None:
    answer = client.post("/mask", content=picture(speckle(3), "jpeg"), headers={"content-type": "image/jpeg"})
    assert read(answer).shape == (420, 580)
    assert read(answer).any()


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_both_ways_to_upload_give_one_mask(client, speckle, kind) -> None:
    data = picture(speckle(4), kind)
    raw = client.post("/mask", content=data, headers={"content-type": f"image/{kind}"})
    file = client.post("/mask", files={"frame": (f"a.{kind}", data, f"image/{kind}")})
    nameless = client.post("/mask", content=data, headers={"content-type": "application/octet-stream"})
    assert read(raw).any()
    assert raw.content == file.content == nameless.content


def test_a_large_multipart_upload_is_read(client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048), np.uint8)  # 4 MB: it is kept on disk meanwhile
    assert read(client.post("/mask", files={"frame": picture(noise, "png")})).shape == (2048, 2048)


def test_a_masks_headers_say_what_it_cannot(client, card, speckle) -> None:
    headers = client.post("/mask", content=picture(speckle(3), "png"), headers=PNG).headers
    assert headers["x-model"] == card.name
    assert headers["x-model-version"] == card.version
    assert headers["x-model-run"] == card.run_id
    assert headers["x-nerve-present"] == "true"
    assert 0.5 <= float(headers["x-nerve-presence"]) <= 1
    assert 0.5 <= float(headers["x-mask-confidence"]) <= 1
    assert "simulated" in headers["x-warnings"]


def test_segment_tells_what_the_design_promises(client, card, speckle) -> None:
    data = picture(speckle(3), "png")
    answer = client.post("/segment", content=data, headers=PNG)
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"frame", "nerve", "confidence", "model", "milliseconds", "warnings"}
    assert told["frame"] == {"height": 420, "width": 580, "index": 0}
    nerve = told["nerve"]
    assert set(nerve) == {"present", "presence", "area_px", "area_mm2", "box", "contours", "rle"}
    assert set(told["milliseconds"]) == {"decode", "network", "answer"}
    assert told["model"] == {key: getattr(card, key) for key in ("name", "version", "run_id", "data", "commit")}
    assert len(told["warnings"]) == 1

    mask = read(client.post("/mask", content=data, headers=PNG))
    decoded = np.zeros(mask.size, np.uint8)
    numbers = list(map(int, nerve["rle"].split()))
    for first, length in zip(numbers[::2], numbers[1::2], strict=True):
        decoded[first - 1 : first - 1 + length] = 255
    assert np.array_equal(decoded.reshape(mask.shape, order="F"), mask)
    assert nerve["present"] is True
    assert nerve["area_px"] == np.count_nonzero(mask)
    assert nerve["box"] == list(cv2.boundingRect(mask))


def test_segment_of_a_frame_without_a_nerve(client) -> None:
    black = picture(np.zeros((420, 580), np.uint8), "png")
    told = client.post("/segment", files={"frame": black}).json()
    assert told["nerve"]["present"] is False
    assert told["nerve"]["rle"] == ""
    assert told["confidence"] == {"mask": None}


def test_model_is_the_card_and_the_device(client, model_folder) -> None:
    told = client.get("/model").json()
    assert told.pop("device")
    assert told == json.loads((model_folder / "card.json").read_text())


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/healthz", "/metrics", "/docs.json"])
def test_what_bentoml_brings_answers(client, route) -> None:
    assert client.get(route).status_code == 200


def test_the_documentation_tells_how_to_upload(client) -> None:
    paths = client.get("/docs.json").json()["paths"]
    for route in ("/mask", "/segment"):
        told = paths[route]["post"]["description"]
        assert "multipart/form-data" in told and "`frame`" in told and "image/tiff" in told


# What is refused

GREY = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
FRAME = picture(GREY, "png")
BROKEN = {"content-type": "multipart/form-data; boundary=b"}
REFUSED = {
    "unknown route": ("GET", "/nothing", {}, 404, "not_found"),
    "unknown route, POST": ("POST", "/nothing", {"content": FRAME}, 404, "not_found"),
    "GET of a mask": ("GET", "/mask", {}, 405, "method_not_allowed"),
    "POST of a model": ("POST", "/model", {}, 405, "method_not_allowed"),
    "text": ("POST", "/mask", {"content": b"no picture", "headers": PNG}, 415, "unknown_type"),
    "text as a file": ("POST", "/mask", {"files": {"frame": b"no picture"}}, 415, "unknown_type"),
    "another type": (
        "POST",
        "/mask",
        {"content": FRAME, "headers": {"content-type": "text/html"}},
        415,
        "content_type",
    ),
    "JSON": ("POST", "/segment", {"json": {"frame": "x"}}, 415, "content_type"),
    "a form": ("POST", "/segment", {"data": {"frame": "x"}}, 415, "content_type"),
    "no type": ("POST", "/mask", {"content": FRAME}, 415, "content_type"),
    "nothing": ("POST", "/mask", {"content": b"", "headers": PNG}, 400, "empty"),
    "an empty file": ("POST", "/segment", {"files": {"frame": b""}}, 400, "empty"),
    "half a PNG": ("POST", "/mask", {"content": FRAME[:2000], "headers": PNG}, 400, "malformed"),
    "half a PNG as a file": ("POST", "/segment", {"files": {"frame": FRAME[:2000]}}, 400, "malformed"),
    "another field": ("POST", "/mask", {"files": {"picture": FRAME}}, 400, "one_frame"),
    "two frames": ("POST", "/mask", {"files": [("frame", FRAME), ("frame", FRAME)]}, 400, "one_frame"),
    "three frames": ("POST", "/mask", {"files": [("frame", FRAME)] * 3}, 400, "multipart"),
    "an address": (
        "POST",
        "/mask",
        {"files": {"frame": (None, "http://127.0.0.1/frame.png")}},
        400,
        "not_a_file",
    ),
    "multipart without boundary": (
        "POST",
        "/mask",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "multipart",
    ),
    "multipart of rubbish": ("POST", "/mask", {"content": b"\0rubbish", "headers": BROKEN}, 400, "multipart"),
    "multipart of nothing": ("POST", "/mask", {"content": b"", "headers": BROKEN}, 400, "one_frame"),
    "multipart without a name": (
        "POST",
        "/mask",
        {"content": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "headers": BROKEN},
        400,
        "multipart",
    ),
    "15x15": ("POST", "/mask", {"content": picture(GREY[:15, :15], "png"), "headers": PNG}, 422, "too_small"),
    "15x15, JSON": ("POST", "/segment", {"files": {"frame": picture(GREY[:15, :15], "png")}}, 422, "too_small"),
}


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message"}
    assert error["error"]["code"] == code
    assert error["error"]["message"].endswith(".")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_shape(client, name) -> None:
    method, route, request, status, code = REFUSED[name]
    refused(client.request(method, route, **request), status, code)


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
def test_too_large_a_body_is_refused_before_it_is_sent(address, kind) -> None:
    asked = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    asked.putrequest("POST", "/mask")
    asked.putheader("content-type", kind)
    asked.putheader("content-length", str(LIMIT_BYTES + 1))
    asked.endheaders()
    answer = asked.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "too_large"
    asked.close()


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("image/png", b""),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="frame"; filename="a.png"\r\n\r\n',
        ),
    ],
)
def test_too_large_a_body_is_refused_while_it_comes(client, kind, head) -> None:
    def chunks() -> Iterator[bytes]:
        yield head
        for _ in range(33):
            yield bytes(2**20)

    refused(client.post("/mask", content=chunks(), headers={"content-type": kind}), 413, "too_large")


# Many at once


async def ask_all(address: str, frames: list[bytes]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(client.post("/mask", content=frame, headers=PNG) for frame in frames))


def test_of_a_hundred_at_once_each_gets_its_own_mask(address, segmenter, speckle) -> None:
    frames = [speckle(seed) for seed in range(100)]
    own = [png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]
    assert len(set(own)) == 100
    answers = asyncio.run(ask_all(address, [png(pixels) for pixels in frames]))
    for answer, mask in zip(answers, own, strict=True):
        if answer.status_code == 429:
            refused(answer, 429, "too_many")
        else:
            assert answer.content == mask
    assert sum(answer.status_code == 200 for answer in answers) >= AT_ONCE


def test_one_more_than_the_limit_is_sent_away_and_the_others_are_answered(address, segmenter, speckle) -> None:
    frames = [speckle(seed) for seed in range(AT_ONCE)]
    own = [png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]

    async def scene() -> list[httpx.Response]:
        sent = asyncio.Event()

        async def slowly(data: bytes) -> AsyncIterator[bytes]:
            yield data[:100]
            await sent.wait()
            yield data[100:]

        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(client.post("/mask", content=slowly(png(pixels)), headers=PNG))
                    for pixels in frames
                ]
                for _ in range(100):  # until all of them have come
                    await asyncio.sleep(0.05)
                    sent_away = await client.get("/model")
                    if sent_away.status_code != 200:
                        break
                ready = await client.get("/readyz")
                sent.set()
            refused(sent_away, 429, "too_many")
            assert sent_away.headers["retry-after"] == "1"
            assert ready.status_code == 200
            assert (await client.get("/model")).status_code == 200
            return [task.result() for task in asked]

    assert [answer.content for answer in asyncio.run(scene())] == own


# Starts


def words(model: Path, port: int) -> str:
    """What a server says that must not start."""
    server = start(model, port)
    said, _ = server.communicate(timeout=60)
    assert server.returncode == 1, said
    return said.decode()


def test_without_a_model_it_does_not_start(tmp_path) -> None:
    said = words(tmp_path / "nowhere", free_port())
    assert said.count("\n") == 1
    assert said.startswith("nervemask: ")
    assert str(tmp_path / "nowhere" / "card.json") in said
    assert "make demo" in said


def test_with_a_tampered_model_it_does_not_start(model_folder, tmp_path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    with (folder / "unet.onnx").open("ab") as network:
        network.write(b"\0")
    said = words(folder, free_port())
    assert said.count("\n") == 1
    assert said.startswith("nervemask: ")
    assert str(folder / "unet.onnx") in said


def test_on_a_port_in_use_it_does_not_start(model_folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = words(model_folder, port)
    assert said.count("\n") == 1
    assert said.startswith("nervemask: ")
    assert str(port) in said


def test_the_service_does_not_import_what_trains() -> None:
    heavy = "{'tensorflow', 'keras', 'mlflow', 'dvc', 'training'}"
    code = f"import sys, service.app; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n"
