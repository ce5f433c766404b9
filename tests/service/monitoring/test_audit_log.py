"""The audit log: a line for each response, no patient's name, and no mask without its line."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from starlette.responses import PlainTextResponse
from starlette.types import Message
from websockets.sync.client import connect

from service.api.access_log import AccessLogMiddleware
from service.monitoring.audit_log import digest
from service.rendering.image_encoding import encode_png
from service.request_state import RequestState
from tests.conftest import RunningServer, serving
from tests.dicoms import make_ultrasound, to_bytes

pytestmark = pytest.mark.server

PATIENT = "Zweifelhuber-Test"
PNG = {"content-type": "image/png"}
DICOM = {"content-type": "application/dicom"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the server writes: audit log, review spool, log, temporary files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(model_folder: Path, folder: Path) -> Iterator[RunningServer]:
    environment = {
        "NERVEMASK_AUDIT": str(folder / "audit.jsonl"),
        "NERVEMASK_SPOOL": str(folder / "spool"),
        "NERVEMASK_LOG": "json",
        "BENTOML_HOME": str(folder / "home"),
        "TMPDIR": str(folder),
    }
    with serving(model_folder, folder, **environment) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_a_mask_has_its_line(client, folder, card, speckle) -> None:
    pixels = speckle(7)
    response = client.post("/mask", content=encode_png(pixels), headers=PNG)
    mask = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    line = read_lines(folder)[-1]
    assert line["frame"] == digest(pixels)
    assert line["mask"] == digest(mask)
    assert (line["route"], line["status"], line["api_key"], line["client"]) == ("/mask", 200, None, "127.0.0.1")
    assert (line["model"], line["version"], line["run"]) == (card.name, card.version, card.run_id)
    assert f"{line['presence']:.4f}" == response.headers["x-nerve-presence"]
    assert line["milliseconds"] > 0
    assert line["time"].endswith("+00:00")


def test_each_frame_of_a_cine_or_stream_and_each_error_has_a_line(server, client, folder, speckle) -> None:
    frames = np.stack([speckle(seed, 120, 160) for seed in range(3)])
    before = len(read_lines(folder))
    client.post("/segment", content=to_bytes(make_ultrasound(frames)), headers=DICOM)
    client.post("/mask", content=b"nothing", headers=PNG)
    with connect(server.address.replace("http", "ws") + "/stream") as stream:
        stream.send(encode_png(frames[0]))
        stream.recv()
        stream.send(b"nothing")
        stream.recv()
    lines = read_lines(folder)[before:]
    assert [line["route"] for line in lines] == ["/segment"] * 3 + ["/mask", "/stream", "/stream"]
    assert [line["index"] for line in lines[:3]] == [0, 1, 2]
    assert lines[3]["status"] == 415
    assert "frame" not in lines[3]
    assert (lines[5]["status"], lines[5]["code"]) == (415, "unknown_type")


def test_an_error_has_its_line_before_the_last_bytes_are_sent(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_AUDIT", str(tmp_path / "audit.jsonl"))
    (tmp_path / "audit.jsonl").touch()
    sent = []

    async def send(message: Message) -> None:
        sent.append((message["type"], [line["status"] for line in read_lines(tmp_path)]))

    scope: dict = {"type": "http", "path": "/mask", "client": ("192.0.2.1", 5)}
    RequestState.of(scope).is_authorized = True
    asyncio.run(AccessLogMiddleware(PlainTextResponse("no", 415))(scope, None, send))
    assert sent == [("http.response.start", []), ("http.response.body", [415])]
    assert len(read_lines(tmp_path)) == 1


def test_a_patients_name_appears_in_no_file_of_the_server(server, client, folder, speckle, tmp_path) -> None:
    pixels = speckle(8)
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Patient", PATIENT)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=metadata)
    dataset = make_ultrasound(np.stack([pixels] * 2))
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = PATIENT, PATIENT, PATIENT
    uid = str(dataset.SOPInstanceUID)
    uploads = [(tmp_path / "a.png").read_bytes(), to_bytes(dataset)]
    assert all(PATIENT.encode() in upload for upload in uploads)
    for upload in uploads:
        for route in ("/mask?index=0", "/overlay", "/segment", "/dicom", f"/{PATIENT}", f"/mask?index={PATIENT}"):
            client.post(route, files={"frame": (f"{PATIENT}.dcm", upload)})
            client.post(route, content=upload[:-50], headers=DICOM)
    client.get("/model", headers={"user-agent": PATIENT, "x-api-key": PATIENT})
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"audit.jsonl", "log"} <= {path.name for path in files}
    for path in files:
        assert PATIENT not in path.name
        assert PATIENT.encode() not in path.read_bytes(), path
        assert uid.encode() not in path.read_bytes(), path
    for line in server.log.read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_mask_is_returned_when_its_line_cannot_be_written(model_folder, tmp_path, speckle) -> None:
    with (
        serving(model_folder, tmp_path, NERVEMASK_AUDIT="/dev/full") as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        frame = encode_png(speckle(1))
        cine = to_bytes(make_ultrasound(np.stack([speckle(1, 120, 160)] * 2)))
        for route, data in (("mask", frame), ("segment", frame), ("dicom", cine)):
            response = client.post(f"/{route}", files={"frame": data})
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "no_audit"
        lines = client.post("/segment", files={"frame": cine}).text.splitlines()
        assert [json.loads(line)["error"]["code"] for line in lines] == ["no_audit"] * 2
        assert client.get("/model").status_code == 200
