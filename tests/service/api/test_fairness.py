"""What one client does costs it alone: many connections, frames that fill the memory, decoders that are killed."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from service.api.api_key_file import hash_key, write_key_hashes
from service.decoding.frame import Frame
from service.rendering.image_encoding import encode_png
from tests.conftest import command_line, patched, serving
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.api.asgi import PNG

pytestmark = [pytest.mark.server, pytest.mark.serial]

MIB = 2**20
DICOM = {"content-type": "application/dicom"}
CONNECTIONS, OTHER_REQUESTS = 200, 20
FRAME_MIB = 270  # room for one frame of 4096x4096 with 16 bits


def keys_file(folder: Path, *names: str) -> str:
    """Write a file of API keys. The key of each client is its name."""
    write_key_hashes(folder / "keys.txt", {name: hash_key(name) for name in names})
    return str(folder / "keys.txt")


def test_a_client_with_many_connections_causes_no_refusal_of_another(
    model_folder, tmp_path, segmenter, speckle
) -> None:
    frame, stop = encode_png(speckle(1)), asyncio.Event()
    mask = encode_png(segmenter.segment(Frame(speckle(1))).mask)

    async def send_until_stopped(client: httpx.AsyncClient, statuses: Counter[int]) -> None:
        while not stop.is_set():
            statuses[(await client.post("/mask", content=frame, headers=PNG)).status_code] += 1

    async def run(address: str) -> tuple[Counter[int], list[httpx.Response]]:
        limits, statuses = httpx.Limits(max_connections=None), Counter[int]()
        async with (
            httpx.AsyncClient(base_url=address, timeout=60, limits=limits, headers={"x-api-key": "alice"}) as alice,
            httpx.AsyncClient(base_url=address, timeout=60, headers={"x-api-key": "bob"}) as bob,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CONNECTIONS):
                group.create_task(send_until_stopped(alice, statuses))
            while not statuses[429]:
                await asyncio.sleep(0.05)
            responses = [await bob.post("/mask", content=frame, headers=PNG) for _ in range(OTHER_REQUESTS)]
            stop.set()
        return statuses, responses

    with serving(model_folder, tmp_path, NERVEMASK_KEYS=keys_file(tmp_path, "alice", "bob")) as server:
        statuses, responses = asyncio.run(run(server.address))
    assert [response.content for response in responses] == [mask] * OTHER_REQUESTS
    assert statuses.keys() == {200, 429}


MEMORY_PATCH = f"""
import os
os.sched_getaffinity = lambda _=0: set(range(8))  # eight frames at once
import service.resources.worker_memory
service.resources.worker_memory.FRAME_MEMORY.limit.maximum = {FRAME_MIB * MIB}"""


def test_large_uncompressed_frames_wait_for_their_memory(model_folder, tmp_path, segmenter) -> None:
    """Eight clients with 32 MiB of pixels each ended both workers of a machine with 4 GiB."""
    pixels = np.zeros((4096, 4096), np.uint16)
    pixels[1000:3000, 1000:3000] = 40000
    data, mask = to_bytes(make_ultrasound(pixels)), encode_png(segmenter.segment(Frame(pixels)).mask)

    async def post_all(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=300) as client:
            return await asyncio.gather(*(client.post("/mask", content=data, headers=DICOM) for _ in range(8)))

    with patched(MEMORY_PATCH, model_folder, tmp_path) as server:
        worker = psutil.Process(server.process.pid)
        before = worker.memory_info().rss
        responses = asyncio.run(post_all(server.address))
        peak = int(Path(f"/proc/{worker.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    assert [(response.status_code, response.content) for response in responses] == [(200, mask)] * 8
    # What libraries keep, and unread bytes of the uploads, come on top. Eight frames at once would take a GiB.
    assert peak - before < (FRAME_MIB + 90) * MIB


def test_a_frame_that_never_fits_is_refused_with_413_before_it_is_decoded(model_folder, tmp_path) -> None:
    data = to_bytes(make_ultrasound(np.zeros((4096, 4096), np.uint16)))
    patch = MEMORY_PATCH.replace(str(FRAME_MIB * MIB), str(100 * MIB))
    with patched(patch, model_folder, tmp_path) as server:
        response = httpx.post(f"{server.address}/mask", content=data, headers=DICOM, timeout=60)
        small = httpx.post(f"{server.address}/mask", content=encode_png(np.eye(90, dtype=np.uint8)), headers=PNG)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_pixels")
    assert small.status_code == 200


def test_a_decoder_that_is_killed_from_outside_never_makes_a_sound_frame_damaged(
    model_folder, tmp_path, speckle
) -> None:
    frame, stop, killed = encode_png(speckle(1, 900, 1200)), threading.Event(), Counter[int]()

    def kill_decoders(server_pid: int) -> None:
        while not stop.is_set():
            for process in psutil.Process(server_pid).children(recursive=True):
                if "service.decoding.decoder_process" in command_line(process):
                    process.kill()
                    killed[process.pid] += 1
            time.sleep(0.02)

    with serving(model_folder, tmp_path) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        killer = threading.Thread(target=kill_decoders, args=(server.process.pid,))
        killer.start()
        while len(killed) < 10:
            responses = [client.post("/mask", content=frame, headers=PNG) for _ in range(10)]
            codes = {response.json()["error"]["code"] for response in responses if response.status_code != 200}
            assert codes <= {"no_decoder"}
            assert {response.status_code for response in responses} <= {200, 503}
        stop.set()
        killer.join()
        assert client.post("/mask", content=frame, headers=PNG).status_code == 200
