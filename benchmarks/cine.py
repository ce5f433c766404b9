"""A long cine: how soon it shows its first mask, and how fast the others follow.

Against a single frame over the same HTTP, and against what decoder and network take with nothing around them.
"""

import io
import json
import math
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
from pydicom import uid

from benchmarks.contenders import OURS, started
from benchmarks.report import table
from service.card import champion_folder
from service.dicom.cine import DicomCine, decompressed
from service.frame import Frame
from service.machine import cores
from service.segmenter import Segmenter
from tests.dicoms import compressed, ultrasound, written

FRAMES = 300
ROUNDS = 7
CHUNK = 2**16  # bytes
GIGABIT = 125e6  # bytes a second, of a hospital's network
HEIGHT, WIDTH = 420, 580
SYNTAXES = {
    "uncompressed": None,
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGBaseline8Bit,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}
DICOM = {"content-type": "application/dicom"}


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


def timed(client: httpx.Client, cine: bytes, rate: float = math.inf) -> Times:
    """rate: bytes a second at the most."""
    sent = 0.0

    def body() -> Iterator[bytes]:
        nonlocal sent
        begun = time.perf_counter()
        for at in range(0, len(cine), CHUNK):
            if (early := begun + at / rate - time.perf_counter()) > 0:
                time.sleep(early)
            yield cine[at : at + CHUNK]
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


def decoding(file: bytes) -> float:
    """Milliseconds a frame from a cine's bytes to pixels, in one thread of this process."""
    cine = DicomCine(io.BytesIO(file))
    encoded = [cine.encoded_at(index) for index in range(30)]
    start = time.perf_counter()
    for index, one in enumerate(encoded):
        if cine.decoder.is_encapsulated:
            decompressed(one, cine.one_frame)
        else:
            cine.decode(one, index)
    return (time.perf_counter() - start) * 1000 / len(encoded)


def measure() -> dict[str, Any]:
    pixels = frames()
    figures: dict[str, Any] = {"ceiling_ms": round(in_process(pixels), 2), "cines": []}
    with started(OURS) as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:
        for name, syntax in SYNTAXES.items():
            single, cine = (_file(pixels[:count], syntax) for count in (1, FRAMES))
            told = {"cine": f"{name}, {len(cine) / 2**20:.0f} MiB", "decoding": round(decoding(cine), 2)}
            figures["cines"].append(told | _asked(client, single, cine))
    return figures


def _file(pixels: np.ndarray, syntax: uid.UID | None) -> bytes:
    return written(compressed(pixels, syntax) if syntax else ultrasound(pixels))


def _asked(client: httpx.Client, single: bytes, cine: bytes) -> dict[str, float]:
    """Medians in milliseconds, single frames and cines in turns."""
    for _ in range(10):
        timed(client, single)
    pairs = [(timed(client, single), timed(client, cine)) for _ in range(ROUNDS)]
    singles = [timed(client, single) for _ in range(30)] + [one for one, _ in pairs]
    one = statistics.median(times.sent + times.first for times in singles)
    sent, first, rest = (statistics.median(column) for column in zip(*(times for _, times in pairs), strict=True))
    wired = statistics.median(timed(client, cine, GIGABIT).first for _ in range(ROUNDS))
    figures = {
        "single": one,
        "sent": sent,
        "first_mask": first,
        "by_gigabit": wired,
        "a_frame_then": rest / (FRAMES - 1),
    }
    return {name: round(value, 2) for name, value in figures.items()}


def tell(figures: dict[str, Any]) -> str:
    ceiling = figures["ceiling_ms"]
    rows = [
        row
        | {
            "first mask / single": f"{row['first_mask'] / row['single']:.2f}",
            "by gigabit / single": f"{row['by_gigabit'] / row['single']:.2f}",
            "with its upload / single": f"{(row['sent'] + row['first_mask']) / row['single']:.2f}",
            "of the throughput in process": f"{(ceiling + row['decoding'] / cores()) / row['a_frame_then']:.2f}",
        }
        for row in figures["cines"]
    ]
    return (
        f"{FRAMES} frames of {WIDTH}x{HEIGHT}; milliseconds. Single: a file of one frame, from its first byte to its "
        "line. First mask: of the cine, from its last byte sent, before which no HTTP client reads, to the first line; "
        "bar: less than 1.5 times a single frame. By gigabit: the same where the client sends no faster than such a "
        "network; on one machine megabytes wait in the socket when the last byte is sent. Then: bar: as fast as all "
        f"cores decode (on one: 'decoding') and make masks of pixels in process, {ceiling} ms a frame.\n\n{table(rows)}"
    )
