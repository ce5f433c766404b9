"""`python -m benchmarks.cine`: how soon a long cine shows its first mask, and how fast the others follow.

Against a single frame over the same HTTP, and against the network in this process with nothing around it.
"""

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import httpx
import numpy as np
from pydicom import uid

from service.card import champion_folder
from service.frame import Frame
from service.runtime import cores
from service.segmenter import Segmenter
from tests.dicoms import ultrasound, written

FRAMES = 300
ROUNDS = 7
CHUNK = 2**16  # bytes
HEIGHT, WIDTH = 420, 580
DICOM = {"content-type": "application/dicom"}


@contextmanager
def served() -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            while not ready(client):
                time.sleep(0.1)
            yield client
    finally:
        server.terminate()
        server.wait()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def frames() -> np.ndarray:
    """uint8 (FRAMES, HEIGHT, WIDTH): speckle that moves."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT + FRAMES, WIDTH), np.uint8)
    still = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.stack([still[index : index + HEIGHT] for index in range(FRAMES)])


class Times(NamedTuple):
    """Milliseconds until the file was sent, from then to the first line of the answer, and from that to the last."""

    sent: float
    first: float
    rest: float


def timed(client: httpx.Client, cine: bytes) -> Times:
    sent = 0.0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield from (cine[at : at + CHUNK] for at in range(0, len(cine), CHUNK))
        sent = time.perf_counter()

    start = time.perf_counter()
    with client.stream("POST", "/segment", content=body(), headers=DICOM) as answer:
        lines = answer.iter_lines()
        json.loads(next(lines))
        first = time.perf_counter()
        count = 1 + sum(1 for _ in lines)
    assert count in (1, FRAMES)
    return Times((sent - start) * 1000, (first - sent) * 1000, (time.perf_counter() - first) * 1000)


def in_process(pixels: np.ndarray) -> float:
    """Milliseconds a frame from pixels to mask, with as many threads as the service has."""
    from concurrent.futures import ThreadPoolExecutor

    segmenter = Segmenter(champion_folder())
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda frame: segmenter.segment(Frame(frame)), pixels[:20]))
        start = time.perf_counter()
        list(pool.map(lambda frame: segmenter.segment(Frame(frame)), pixels))
        return (time.perf_counter() - start) * 1000 / len(pixels)


def main() -> None:
    pixels = frames()
    cines, singles = {}, {}
    for name, syntax in {"uncompressed": None, "JPEG-LS": uid.JPEGLSLossless, "RLE": uid.RLELossless}.items():
        for made, store in ((ultrasound(pixels), cines), (ultrasound(pixels[:1]), singles)):
            if syntax:
                made.compress(syntax, generate_instance_uid=False)
            store[name] = written(made)
    ceiling = in_process(pixels)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; network {champion_folder()}")
    print(f"in process, {cores()} threads: {ceiling:.2f} ms a frame")
    with served() as client:
        for name, cine in cines.items():
            one = [timed(client, singles[name]) for _ in range(30)][10:]
            single = statistics.median(times.sent + times.first for times in one)
            rounds = [timed(client, cine) for _ in range(ROUNDS)]
            sent, first, rest = (statistics.median(column) for column in zip(*rounds, strict=True))
            rest /= FRAMES - 1
            print(
                f"{name} ({len(cine) / 2**20:.0f} MiB): single frame {single:.1f} ms; {FRAMES} frames sent in"
                f" {sent:.0f} ms,"
                f" first mask {first:.1f} ms later ({first / single:.2f} times a single frame),"
                f" the rest {rest:.2f} ms a frame ({ceiling / rest:.2f} of the ceiling)"
            )


if __name__ == "__main__":
    assert Path("service").is_dir(), "run it from the project's root"
    main()
