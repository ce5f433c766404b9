"""The real server, asked over HTTP: every answer; and starts that must fail."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from service.card import Card
from service.frame import Frame
from service.upload import RAW_TYPES
from tests.conftest import free_port, serving, start, wait_until_ready

ROOT = Path(__file__).parent.parent
PNG = {"content-type": "image/png"}


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
    assert told["frame"] == {"height": 420, "width": 580, "index": 0, "area": None, "spacing_mm": None, "rate_hz": None}
    nerve = told["nerve"]
    assert set(nerve) == {"present", "presence", "area_px", "area_mm2", "box", "size_mm", "contours", "rle"}
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


def test_model_is_the_card_the_device_and_its_warnings(client, model_folder) -> None:
    told = client.get("/model").json()
    assert told.pop("device")
    assert len(told.pop("warnings")) == 1  # of a model of the phantom
    assert told == json.loads((model_folder / "card.json").read_text())


def test_the_worst_frames_are_the_folders_and_none_are_made_up(client, card, model_folder, tmp_path) -> None:
    told = client.get("/model/worst.png")
    assert told.headers["content-type"] == "image/png"
    assert told.content == (model_folder / "worst.png").read_bytes()
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    (folder / "worst.png").unlink()
    replace(card, known=Card.read(model_folder).known).write(folder)
    with serving(folder, tmp_path) as server:
        assert httpx.get(f"{server.address}/model/worst.png").status_code == 404


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/healthz", "/metrics", "/docs.json"])
def test_what_bentoml_brings_answers(client, route) -> None:
    assert client.get(route).status_code == 200


def test_the_documentation_tells_how_to_upload(client) -> None:
    paths = client.get("/docs.json").json()["paths"]
    for route in ("/mask", "/overlay", "/segment", "/dicom"):
        ways = paths[route]["post"]["requestBody"]["content"]
        assert set(ways) == {"multipart/form-data", *RAW_TYPES}
        assert set(ways["multipart/form-data"]["schema"]["properties"]) == {"frame"}


def test_another_server_leaves_its_metrics_alone(client, model_folder, speckle, tmp_path) -> None:
    def counted() -> float:
        """Requests to /overlay, by the first server's own count."""
        client.post("/overlay", content=picture(speckle(3), "png"), headers=PNG)
        told = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in told if "requests_total{" in line and '"/overlay"' in line)

    before, port = counted(), free_port()
    with (tmp_path / "log").open("wb") as said:
        other = start(model_folder, port, said)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", other)
        finally:
            other.terminate()
            other.wait(30)
    assert counted() == before + 1


def words(model: Path, port: int) -> str:
    """What a server says that must not start: one line."""
    server = subprocess.run(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert server.returncode == 1
    assert server.stdout == ""
    assert server.stderr.startswith("nervemask: ")
    assert server.stderr.count("\n") == 1
    return server.stderr


def test_without_a_model_it_does_not_start(tmp_path) -> None:
    said = words(tmp_path / "nowhere", 3000)
    assert f"{tmp_path / 'nowhere'} is missing" in said
    assert "make demo" in said


def test_with_a_tampered_model_it_does_not_start(model_folder, tmp_path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    with (folder / "unet.onnx").open("ab") as network:
        network.write(b"\0")
    said = words(folder, 3000)
    assert str(folder / "unet.onnx") in said


def test_on_a_port_in_use_it_does_not_start(model_folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = words(model_folder, port)
    assert str(port) in said


def test_the_service_does_not_import_what_trains() -> None:
    heavy = "{'tensorflow', 'keras', 'mlflow', 'dvc', 'training'}"
    code = f"import sys, service.app; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n"


def test_the_page_is_ours_and_loads_nothing_from_outside(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert "<title>Nervemask</title>" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", answer.text)
