"""Many at once, broken off, failed, too slow: nothing is mixed up, nothing left waiting, and the shape is kept."""

import asyncio
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.frame import Frame
from service.guard import AT_ONCE, Guard
from service.pictures import png
from service.runtime import cores
from tests.conftest import free_port, wait_until_ready
from tests.dicoms import ultrasound, written

PNG = {"content-type": "image/png"}


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
            assert answer.json()["error"]["code"] == "too_many"
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
            assert sent_away.status_code == 429
            assert sent_away.json()["error"]["code"] == "too_many"
            assert sent_away.headers["retry-after"] == "1"
            assert ready.status_code == 200
            assert (await client.get("/model")).status_code == 200
            return [task.result() for task in asked]

    assert [answer.content for answer in asyncio.run(scene())] == own


def test_an_upload_that_breaks_off_leaves_nothing_behind(address, client) -> None:
    host, port = address.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as broken:
            broken.sendall(b"POST /mask HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx")
    for _ in range(600):
        time.sleep(0.05)
        told = client.get("/metrics").text.splitlines()
        under_way = [line for line in told if "request_in_progress{" in line and 'endpoint="/mask"' in line]
        if under_way and all(line.endswith(" 0.0") for line in under_way):
            return
    raise AssertionError(f"requests are under way for ever: {under_way}")


# The guard alone, around applications that fail


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret of the inside")


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(60)


async def wordy(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse([{"error": "a secret of the inside"}], 503)(scope, receive, send)


@pytest.mark.parametrize(
    ("app", "status", "code"), [(broken, 500, "internal"), (slow, 504, "too_slow"), (wordy, 503, "not_ready")]
)
def test_who_fails_inside_is_spoken_for(monkeypatch, app, status, code) -> None:
    monkeypatch.setattr("service.guard.SECONDS", 0.1)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return await client.get("/model")

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "secret" not in answer.text


async def long(scope: Scope, receive: Receive, send: Send) -> None:
    """A cine: a line now and then, for longer than the guard would wait for one."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(6):
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def test_an_answer_that_goes_on_is_not_too_slow(monkeypatch) -> None:
    monkeypatch.setattr("service.guard.SECONDS", 0.15)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(long))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return await client.get("/model")

    assert asyncio.run(ask()).text == "line\n" * 6


SLOW_NETWORK = """
import sys, time
import service.guard

service.guard.SECONDS = 2.0
import uvicorn
from service.app import Nervemask
from service.segmenter import Segmenter

segment = Segmenter.segment
Segmenter.segment = lambda self, frame: time.sleep(0.2) or segment(self, frame)
uvicorn.run(Nervemask.to_asgi(), port=int(sys.argv[1]), log_level="warning")
"""


def test_a_segmentation_object_may_take_longer_than_the_limit(model_folder, speckle, tmp_path) -> None:
    """Six seconds of frames, where nothing may be silent for two."""
    port, frames = free_port(), 30 * cores()
    cine = written(ultrasound(np.stack([speckle(1, 64, 64)] * frames)))
    server = subprocess.Popen(
        [sys.executable, "-c", SLOW_NETWORK, str(port)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "NERVEMASK_MODEL": str(model_folder), "BENTOML_HOME": str(tmp_path)},
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", server)
        with httpx.Client(headers={"content-type": "application/dicom"}, timeout=60) as client:
            dicom = f"http://127.0.0.1:{port}/dicom"
            while client.post(dicom, content=written(ultrasound(speckle(1)))).status_code == 504:
                pass  # the first one loads highdicom, which takes long itself
            answer = client.post(dicom, content=cine)
    finally:
        server.terminate()
        server.wait(30)
    assert answer.status_code == 200, answer.text
    assert dcmread(io.BytesIO(answer.content)).NumberOfFrames == frames
