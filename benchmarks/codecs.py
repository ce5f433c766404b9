"""Which library reads and writes a frame's file fastest, in one thread."""

import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.report import table
from benchmarks.uploads import encoded, frames
from service import pictures

TIMES = 100


def measure() -> list[dict[str, Any]]:
    grey, large = frames(420, 580, 1)[0], frames(632, 761, 1)[0]
    files = {".png": encoded(".png", grey), ".jpg": encoded(".jpg", large), ".tif": encoded(".tif", grey)}
    by_all = {
        "OpenCV": lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED),
        "Pillow": lambda file: np.asarray(Image.open(io.BytesIO(file))),
    }
    readers: dict[str, dict[str, Callable[[bytes], Any]]] = {
        ".png": by_all | {"imagecodecs (spng)": imagecodecs.spng_decode},
        ".jpg": by_all | {"simplejpeg": lambda file: simplejpeg.decode_jpeg(file, "GRAY")},
        ".tif": by_all | {"imagecodecs (tifffile's)": imagecodecs.tiff_decode},
    }
    rows = [
        {"what": f"read {kind}, {len(files[kind])} bytes", "by": name, "ms": _milliseconds(read, files[kind])}
        for kind, of_kind in readers.items()
        for name, read in of_kind.items()
    ]
    mask = np.zeros_like(grey)
    cv2.ellipse(mask, (300, 200), (60, 30), 20, 0, 360, 255, -1)
    writers: dict[str, Callable[[np.ndarray], bytes | bytearray]] = {
        "OpenCV, as the service does": pictures.png,
        "OpenCV, its own settings": lambda pixels: encoded(".png", pixels),
        "Pillow, quickest": _by_pillow,
        "imagecodecs (spng), quickest": lambda pixels: imagecodecs.spng_encode(pixels, level=1),
    }
    return rows + [
        {"what": "write a mask's PNG", "by": f"{name}: {len(write(mask))} bytes", "ms": _milliseconds(write, mask)}
        for name, write in writers.items()
    ]


def _milliseconds(work: Callable[[Any], Any], on: Any) -> float:
    def once() -> float:
        start = time.perf_counter()
        work(on)
        return (time.perf_counter() - start) * 1000

    return round(statistics.median([once() for _ in range(TIMES)][TIMES // 10 :]), 3)


def _by_pillow(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def tell(figures: list[dict[str, Any]]) -> str:
    return table(figures)
