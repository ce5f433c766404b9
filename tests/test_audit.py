"""What is kept: a line for every answer, nothing that names a patient, and no mask without its line."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
import pytest
from PIL import Image, PngImagePlugin
from starlette.responses import PlainTextResponse
from starlette.types import Message
from websockets.sync.client import connect

from service.accounts.account import Counted
from service.accounts.audit import digest
from service.accounts.spool import Spool
from service.frame import Area, Frame
from service.pictures import png
from service.segmenter import Seen
from tests.conftest import Serving, serving
from tests.dicoms import ultrasound, written

NAME = "Zweifelhuber-Test"
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(model_folder: Path, folder: Path) -> Iterator[Serving]:
    kept = {"NERVEMASK_AUDIT": str(folder / "audit.jsonl"), "NERVEMASK_SPOOL": str(folder / "spool")}
    environment = {**kept, "BENTOML_HOME": str(folder / "home"), "TMPDIR": str(folder), "NERVEMASK_LOG": "json"}
    with serving(model_folder, folder, **environment) as server:
        yield server


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_an_answer_has_its_line(server, folder, card, speckle) -> None:
    pixels = speckle(7)
    answer = httpx.post(f"{server.address}/mask", content=png(pixels), headers=PNG)
    mask = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    line = lines(folder)[-1]
    assert line["frame"] == digest(pixels)
    assert line["mask"] == digest(mask)
    assert (line["route"], line["status"], line["who"], line["client"]) == ("/mask", 200, None, "127.0.0.1")
    assert (line["model"], line["version"], line["run"]) == (card.name, card.version, card.run_id)
    assert f"{line['presence']:.4f}" == answer.headers["x-nerve-presence"]
    assert line["milliseconds"] > 0
    assert line["time"].endswith("+00:00")


def test_every_frame_of_a_cine_and_of_a_stream_has_one_and_so_has_a_refusal(server, folder, speckle) -> None:
    frames = np.stack([speckle(seed, 120, 160) for seed in range(3)])
    before = len(lines(folder))
    cine = written(ultrasound(frames))
    httpx.post(f"{server.address}/segment", content=cine, headers={"content-type": "application/dicom"})
    httpx.post(f"{server.address}/mask", content=b"nothing", headers=PNG)
    with connect(server.address.replace("http", "ws") + "/stream") as stream:
        stream.send(png(frames[0]))
        stream.recv()
        stream.send(b"nothing")
        stream.recv()
    added = lines(folder)[before:]
    assert [line["route"] for line in added] == ["/segment"] * 3 + ["/mask", "/stream", "/stream"]
    assert (added[5]["status"], added[5]["code"]) == (415, "unknown_type")
    assert [line["index"] for line in added[:3]] == [0, 1, 2]
    assert added[3]["status"] == 415
    assert "frame" not in added[3]


def test_a_refusal_has_its_line_before_its_end_leaves(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_AUDIT", str(tmp_path / "audit.jsonl"))
    (tmp_path / "audit.jsonl").touch()
    kept = []

    async def send(message: Message) -> None:
        kept.append((message["type"], [line["status"] for line in lines(tmp_path)]))

    scope = {"type": "http", "path": "/mask", "client": ("192.0.2.1", 5)}
    asyncio.run(Counted(PlainTextResponse("no", 415))(scope, None, send))
    assert kept == [("http.response.start", []), ("http.response.body", [415])]
    assert len(lines(tmp_path)) == 1


def test_a_planted_name_is_found_nowhere(server, folder, speckle, tmp_path) -> None:
    pixels = speckle(8)
    named = PngImagePlugin.PngInfo()
    named.add_text("Patient", NAME)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=named)
    dataset = ultrasound(np.stack([pixels] * 2))
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = NAME, NAME, NAME
    uid = str(dataset.SOPInstanceUID)
    uploads = [(tmp_path / "a.png").read_bytes(), written(dataset)]
    assert all(NAME.encode() in upload for upload in uploads)
    with httpx.Client(base_url=server.address, timeout=30) as client:
        for upload in uploads:
            for route in ("/mask?index=0", "/overlay", "/segment", "/dicom", f"/{NAME}", f"/mask?index={NAME}"):
                client.post(route, files={"frame": (f"{NAME}.dcm", upload)})
                client.post(route, content=upload[:-50], headers={"content-type": "application/dicom"})
        client.get("/model", headers={"user-agent": NAME, "x-api-key": NAME})
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert {"audit.jsonl", "log"} <= {path.name for path in kept}
    for path in kept:
        assert NAME not in path.name
        assert NAME.encode() not in path.read_bytes(), path
        assert uid.encode() not in path.read_bytes(), path
    for line in server.log.read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_what_cannot_be_audited_is_not_answered(model_folder, tmp_path, speckle) -> None:
    with serving(model_folder, tmp_path, NERVEMASK_AUDIT="/dev/full") as server:
        cine = written(ultrasound(np.stack([speckle(1, 120, 160)] * 2)))
        for route, data in (("mask", png(speckle(1))), ("segment", png(speckle(1))), ("dicom", cine)):
            answer = httpx.post(f"{server.address}/{route}", files={"frame": data})
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "no_audit"
        told = httpx.post(f"{server.address}/segment", files={"frame": cine}).text.splitlines()
        assert [json.loads(line)["error"]["code"] for line in told] == ["no_audit"] * 2
        assert httpx.get(f"{server.address}/model").status_code == 200


def test_an_upload_without_room_on_the_disk_is_told_so(model_folder, tmp_path) -> None:
    """What waits in memory is answered meanwhile."""
    with serving(model_folder, tmp_path) as server:
        for worker in map(psutil.Process, server.workers()):
            worker.rlimit(psutil.RLIMIT_FSIZE, (2**20, 2**20))  # no file may grow beyond, as if the disk were full
        large, small = bytes(20 * 2**20), png(np.zeros((64, 64), np.uint8))
        for sent in ({"files": {"frame": large}}, {"content": large, "headers": {"content-type": "application/dicom"}}):
            answer = httpx.post(f"{server.address}/mask", **sent)
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "no_room"
            assert answer.headers["retry-after"]
        assert httpx.post(f"{server.address}/mask", files={"frame": small}).status_code == 200


def test_the_spool_keeps_the_scan_area_and_stays_within_its_bound(segmenter, speckle, tmp_path) -> None:
    limit = 400_000
    spool = Spool(tmp_path, limit)
    for seed in range(30):
        pixels = np.random.default_rng(seed).integers(0, 256, (120, 160), np.uint8)
        frame = Frame(pixels, area=Area(10, 20, 100, 80))
        spool.keep(Seen(frame, segmenter.segment(frame), 0.0))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    kept = cv2.imread(str(tmp_path / f"{digest(pixels)}.frame.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(kept, frame.scan)
    assert (tmp_path / f"{digest(pixels)}.mask.png").exists()


def test_a_frame_without_a_known_scan_area_is_not_spooled(segmenter, speckle, tmp_path) -> None:
    frame = Frame(speckle(1))
    Spool(tmp_path, 10**6).keep(Seen(frame, segmenter.segment(frame), 0.0))
    assert list(tmp_path.iterdir()) == []
