"""A long cine: time to the first mask, and time per frame after it.

The comparison is a single frame over the same HTTP, and the decoder and the network in one process without a server.
"""

import io
import json
import math
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
from pydicom import uid

from benchmarks.compared_servers import NERVEMASK, run_server
from benchmarks.report import table
from service.decoding.dicom.decompression import decompress_frame
from service.decoding.dicom.dicom_cine import DicomCine
from service.decoding.frame import Frame
from service.inference.segmenter import Segmenter
from service.model.model_folder import model_folder
from service.resources.container_limits import cpu_cores
from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes

TITLE = "A long cine: time to the first mask, and time per frame after it"
FRAMES = 300
ROUNDS = 7
WARM_UP_REQUESTS, SINGLE_REQUESTS = 10, 30
MAX_FIRST_MASK_RATIO = 1.5
CHUNK_BYTES = 2**16
GIGABIT_BYTES_PER_SECOND = 125e6  # a hospital's network
HEIGHT, WIDTH = 420, 580
TRANSFER_SYNTAXES = {
    "uncompressed": None,
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGBaseline8Bit,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}
HEADERS = {"content-type": "application/dicom"}


def make_frames() -> np.ndarray:
    """Return moving speckle, uint8 (FRAMES, HEIGHT, WIDTH)."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT + FRAMES, WIDTH), np.uint8)
    speckle = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.stack([speckle[index : index + HEIGHT] for index in range(FRAMES)])


class RequestTimes(NamedTuple):
    """Milliseconds of the upload, from its end to the first response line, and from that to the last line."""

    upload: float
    first_line: float
    other_lines: float


def time_request(client: httpx.Client, file: bytes, bytes_per_second: float = math.inf) -> RequestTimes:
    """Send a file to /segment. bytes_per_second: maximum upload rate."""
    upload_end = 0.0

    def body() -> Iterator[bytes]:
        nonlocal upload_end
        upload_start = time.perf_counter()
        for offset in range(0, len(file), CHUNK_BYTES):
            if (wait := upload_start + offset / bytes_per_second - time.perf_counter()) > 0:
                time.sleep(wait)
            yield file[offset : offset + CHUNK_BYTES]
        upload_end = time.perf_counter()

    start = time.perf_counter()
    with client.stream("POST", "/segment", content=body(), headers=HEADERS) as response:
        lines = response.iter_lines()
        json.loads(next(lines))
        first = time.perf_counter()
        count = 1 + sum(1 for _ in lines)
    assert count in (1, FRAMES)
    end = time.perf_counter()
    return RequestTimes((upload_end - start) * 1000, (first - upload_end) * 1000, (end - first) * 1000)


def measure_in_process(pixels: np.ndarray) -> float:
    """Return the milliseconds per frame from pixels to mask, with as many threads as the service has."""
    segmenter = Segmenter(model_folder())
    with ThreadPoolExecutor(cpu_cores()) as pool:
        list(pool.map(lambda frame: segmenter.segment(Frame(frame)), pixels[:20]))
        start = time.perf_counter()
        list(pool.map(lambda frame: segmenter.segment(Frame(frame)), pixels))
        return (time.perf_counter() - start) * 1000 / len(pixels)


def measure_decoding(file: bytes) -> float:
    """Return the milliseconds per frame from a cine's bytes to pixels, in one thread of this process."""
    cine = DicomCine(io.BytesIO(file))
    encoded_frames = [cine.read_encoded(index) for index in range(30)]
    start = time.perf_counter()
    for index, encoded in enumerate(encoded_frames):
        if cine.options["transfer_syntax_uid"].is_encapsulated:
            decompress_frame(encoded, cine.options)
        else:
            cine.decode(encoded, index)
    return (time.perf_counter() - start) * 1000 / len(encoded_frames)


def measure() -> dict[str, Any]:
    pixels = make_frames()
    rows = []
    in_process_ms = round(measure_in_process(pixels), 2)
    with run_server(NERVEMASK) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        for name, syntax in TRANSFER_SYNTAXES.items():
            single, cine = (_encode(pixels[:count], syntax) for count in (1, FRAMES))
            row = {"cine": f"{name}, {len(cine) / 2**20:.0f} MiB", "decoding_ms": round(measure_decoding(cine), 2)}
            rows.append(row | _measure_requests(client, single, cine))
    return {"cores": cpu_cores(), "in_process_ms": in_process_ms, "cines": rows}


def _encode(pixels: np.ndarray, syntax: uid.UID | None) -> bytes:
    return to_bytes(make_compressed_ultrasound(pixels, syntax) if syntax else make_ultrasound(pixels))


def _measure_requests(client: httpx.Client, single: bytes, cine: bytes) -> dict[str, float]:
    """Return medians in milliseconds. Single frames and cines alternate."""
    for _ in range(WARM_UP_REQUESTS):
        time_request(client, single)
    pairs = [(time_request(client, single), time_request(client, cine)) for _ in range(ROUNDS)]
    singles = [time_request(client, single) for _ in range(SINGLE_REQUESTS)] + [times for times, _ in pairs]
    upload, first_line, other_lines = (
        statistics.median(column) for column in zip(*(times for _, times in pairs), strict=True)
    )
    at_gigabit = [time_request(client, cine, GIGABIT_BYTES_PER_SECOND).first_line for _ in range(ROUNDS)]
    medians = {
        "single_frame_ms": statistics.median(times.upload + times.first_line for times in singles),
        "upload_ms": upload,
        "first_mask_ms": first_line,
        "first_mask_at_gigabit_ms": statistics.median(at_gigabit),
        "ms_per_further_frame": other_lines / (FRAMES - 1),
    }
    return {name: round(value, 2) for name, value in medians.items()}


def to_markdown(figures: dict[str, Any]) -> str:
    in_process_ms, cores = figures["in_process_ms"], figures["cores"]
    rows = [
        row
        | {
            "first mask / single frame": f"{row['first_mask_ms'] / row['single_frame_ms']:.2f}",
            "first mask at gigabit / single frame": f"{row['first_mask_at_gigabit_ms'] / row['single_frame_ms']:.2f}",
            "upload and first mask / single frame": (
                f"{(row['upload_ms'] + row['first_mask_ms']) / row['single_frame_ms']:.2f}"
            ),
            "share of the in-process throughput": (
                f"{(in_process_ms + row['decoding_ms'] / cores) / row['ms_per_further_frame']:.2f}"
            ),
        }
        for row in figures["cines"]
    ]
    lines = [
        f"{FRAMES} frames of {WIDTH}x{HEIGHT}.",
        "",
        "- **Single frame**: a file of one frame, from its first byte to the response line.",
        "- **First mask**: from the last byte of the cine's upload to the first response line. HTTP clients do not "
        f"read before the upload ends. Limit: less than {MAX_FIRST_MASK_RATIO} times a single frame.",
        "- **First mask at gigabit**: the same for a client that uploads at 1 Gbit/s. On one machine, megabytes wait "
        "in the socket when the upload ends.",
        "- **Decoding**: per frame, in one thread.",
        "- **In-process throughput**: all cores decode the frames and segment the pixels in one process. Segmentation "
        f"takes {in_process_ms} ms per frame.",
    ]
    return "\n".join(lines) + f"\n\n{table(rows)}"
