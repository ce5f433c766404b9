"""The responses of every route of a running service."""

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from service.api.upload import RAW_CONTENT_TYPES
from service.decoding.frame import Frame
from service.model.card import Card
from tests.conftest import free_port, serving, start, wait_until_ready
from tests.run_lengths import decode_run_lengths
from tests.service.api.asgi import PNG

pytestmark = pytest.mark.server


def encode(pixels: np.ndarray, file_format: str) -> bytes:
    """The file of a frame, uint8 (height, width)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def read_mask(response: httpx.Response) -> np.ndarray:
    """The mask of a response, uint8 (height, width), 0 or 255."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    mask = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}
    return mask


@pytest.mark.parametrize(("width", "height"), [(580, 420), (761, 632), (16, 16), (1023, 769)])
@pytest.mark.parametrize("file_format", ["png", "tiff"])
def test_a_mask_is_the_segmenters_and_has_the_frames_size(
    client, segmenter, speckle, width, height, file_format
) -> None:
    pixels = speckle(3, height, width)
    headers = {"content-type": f"image/{file_format}"}
    response = client.post("/mask", content=encode(pixels, file_format), headers=headers)
    assert np.array_equal(read_mask(response), segmenter.segment(Frame(pixels)).mask)


def test_a_jpeg_gets_a_mask(client, speckle) -> None:
    response = client.post("/mask", content=encode(speckle(3), "jpeg"), headers={"content-type": "image/jpeg"})
    assert read_mask(response).shape == (420, 580)
    assert read_mask(response).any()


@pytest.mark.parametrize("file_format", ["png", "jpeg", "tiff"])
def test_the_mask_does_not_depend_on_the_form_of_the_upload(client, speckle, file_format) -> None:
    data = encode(speckle(4), file_format)
    raw = client.post("/mask", content=data, headers={"content-type": f"image/{file_format}"})
    multipart = client.post("/mask", files={"frame": (f"a.{file_format}", data, f"image/{file_format}")})
    unknown_type = client.post("/mask", content=data, headers={"content-type": "application/octet-stream"})
    assert read_mask(raw).any()
    assert raw.content == multipart.content == unknown_type.content


def test_a_large_multipart_upload_gets_a_mask(client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048), np.uint8)  # a file of 4 MB
    assert read_mask(client.post("/mask", files={"frame": encode(noise, "png")})).shape == (2048, 2048)


def test_the_headers_of_a_mask_describe_the_model_and_the_result(client, card, speckle) -> None:
    headers = client.post("/mask", content=encode(speckle(3), "png"), headers=PNG).headers
    assert headers["x-model"] == card.name
    assert headers["x-model-version"] == card.version
    assert headers["x-model-run"] == card.run_id
    assert headers["x-nerve-present"] == "true"
    assert 0.5 <= float(headers["x-nerve-presence"]) <= 1
    assert 0.5 <= float(headers["x-mask-confidence"]) <= 1
    assert "simulated" in headers["x-warnings"]


def test_below_min_confidence_the_answer_is_left_out(client, speckle) -> None:
    data = encode(speckle(3), "png")
    kept, left_out = (
        client.post("/segment", params={"min_confidence": value}, content=data, headers=PNG).json() for value in (0, 1)
    )
    assert kept["nerve"]["present"] is True
    assert left_out["nerve"] == kept["nerve"] | {
        "present": None, "area_px": 0, "box": None, "contours": [], "rle": ""
    }  # fmt: skip
    assert left_out["confidence"] == kept["confidence"]
    assert left_out["warnings"][-1] == "the answer is left out: its confidence is below 1"
    mask = client.post("/mask", params={"min_confidence": 1}, content=data, headers=PNG)
    assert not read_mask(mask).any()
    assert mask.headers["x-nerve-present"] == "null"
    overlay = client.post("/overlay", params={"min_confidence": 1}, content=data, headers=PNG)
    assert overlay.headers["x-nerve-present"] == "null"


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "much", ""])
@pytest.mark.parametrize("route", ["/mask", "/overlay", "/segment"])
def test_a_min_confidence_that_is_no_share_is_refused(client, speckle, route, value) -> None:
    response = client.post(route, params={"min_confidence": value}, content=encode(speckle(3), "png"), headers=PNG)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "min_confidence")


def test_segment_returns_the_mask_and_its_measurements(client, card, speckle) -> None:
    data = encode(speckle(3), "png")
    response = client.post("/segment", content=data, headers=PNG)
    assert response.status_code == 200
    content = response.json()
    assert set(content) == {"frame", "nerve", "confidence", "model", "milliseconds", "warnings"}
    frame = {"height": 420, "width": 580, "index": 0, "area": None, "spacing_mm": None, "rate_hz": None}
    assert content["frame"] == frame
    nerve = content["nerve"]
    assert set(nerve) == {"present", "presence", "area_px", "area_mm2", "box", "size_mm", "contours", "rle"}
    assert set(content["milliseconds"]) == {"decode", "network", "answer"}
    assert content["model"] == {key: getattr(card, key) for key in ("name", "version", "run_id", "data", "commit")}
    assert len(content["warnings"]) == 1

    mask = read_mask(client.post("/mask", content=data, headers=PNG))
    assert np.array_equal(decode_run_lengths(nerve["rle"], mask.shape), mask)
    assert nerve["present"] is True
    assert nerve["area_px"] == np.count_nonzero(mask)
    assert nerve["box"] == list(cv2.boundingRect(mask))


def test_segment_of_a_frame_without_a_nerve(client) -> None:
    black = encode(np.zeros((420, 580), np.uint8), "png")
    content = client.post("/segment", files={"frame": black}).json()
    assert content["nerve"]["present"] is False
    assert content["nerve"]["rle"] == ""
    assert content["confidence"] == {"mask": None}


def test_model_returns_the_card_the_device_and_the_warnings(client, model_folder) -> None:
    content = client.get("/model").json()
    assert content.pop("device")
    assert len(content.pop("warnings")) == 1  # of a model that was trained on the phantom
    assert content == json.loads((model_folder / "card.json").read_text())


def test_the_worst_frames_are_those_of_the_model_folder(client, model_folder) -> None:
    response = client.get("/model/worst.png")
    assert response.headers["content-type"] == "image/png"
    assert response.content == (model_folder / "worst.png").read_bytes()


def test_a_model_folder_without_worst_frames_gets_404(card, model_folder, tmp_path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    (folder / "worst.png").unlink()
    replace(card, self_test_presence=Card.read(model_folder).self_test_presence).write(folder)
    with serving(folder, tmp_path) as server:
        assert httpx.get(f"{server.address}/model/worst.png").status_code == 404


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/healthz", "/metrics", "/docs.json"])
def test_probes_metrics_and_documentation_respond(client, route) -> None:
    assert client.get(route).status_code == 200


def test_the_documentation_describes_both_forms_of_an_upload(client) -> None:
    paths = client.get("/docs.json").json()["paths"]
    for route in ("/mask", "/overlay", "/segment", "/dicom"):
        content = paths[route]["post"]["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", *RAW_CONTENT_TYPES}
        assert set(content["multipart/form-data"]["schema"]["properties"]) == {"frame"}


def test_another_server_does_not_reset_the_metrics(client, model_folder, speckle, tmp_path) -> None:
    def overlay_count() -> float:
        """Requests to /overlay, after one more."""
        client.post("/overlay", content=encode(speckle(3), "png"), headers=PNG)
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if "requests_total{" in line and '"/overlay"' in line)

    before, port = overlay_count(), free_port()
    with (tmp_path / "log").open("wb") as log:
        server = start(model_folder, port, log)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", server)
        finally:
            server.terminate()
            server.wait(60)
    assert overlay_count() == before + 1


def test_the_page_loads_nothing_from_other_hosts(client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert "<title>Nervemask</title>" in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", response.text)
