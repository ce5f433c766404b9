"""Libraries that read and write image files: time in one thread."""

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
from benchmarks.sample_uploads import encode_image, sample_frames
from service.rendering import image_encoding

TITLE = "Libraries that read and write image files: time in one thread"
REPEATS = 100


def measure() -> list[dict[str, Any]]:
    return _measure_readers() + _measure_writers()


def _measure_readers() -> list[dict[str, Any]]:
    grey, large = sample_frames(420, 580, 1)[0], sample_frames(632, 761, 1)[0]
    frames = {".png": grey, ".jpg": large, ".tif": grey}
    files = {suffix: encode_image(suffix, pixels) for suffix, pixels in frames.items()}
    general: dict[str, Callable[[bytes], Any]] = {
        "OpenCV": lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED),
        "Pillow": lambda file: np.asarray(Image.open(io.BytesIO(file))),
    }
    readers: dict[str, dict[str, Callable[[bytes], Any]]] = {
        ".png": general | {"imagecodecs (spng)": imagecodecs.spng_decode},
        ".jpg": general | {"simplejpeg": lambda file: simplejpeg.decode_jpeg(file, "GRAY")},
        ".tif": general | {"imagecodecs (tifffile's)": imagecodecs.tiff_decode},
    }
    return [
        _row(f"read {suffix}", library, len(files[suffix]), _median_ms(read, files[suffix]))
        for suffix, by_library in readers.items()
        for library, read in by_library.items()
    ]


def _measure_writers() -> list[dict[str, Any]]:
    mask = np.zeros((420, 580), np.uint8)
    cv2.ellipse(mask, (300, 200), (60, 30), 20, 0, 360, 255, -1)
    writers: dict[str, Callable[[np.ndarray], bytes | bytearray]] = {
        "OpenCV, the service's settings": image_encoding.encode_png,
        "OpenCV, default settings": lambda pixels: encode_image(".png", pixels),
        "Pillow, fastest": _write_with_pillow,
        "imagecodecs (spng), fastest": lambda pixels: imagecodecs.spng_encode(pixels, level=1),
    }
    return [
        _row("write a mask as .png", library, len(write(mask)), _median_ms(write, mask))
        for library, write in writers.items()
    ]


def _row(task: str, library: str, file_bytes: int, milliseconds: float) -> dict[str, Any]:
    return {"task": task, "library": library, "file_bytes": file_bytes, "ms": milliseconds}


def _median_ms(function: Callable[[Any], Any], argument: Any) -> float:
    def time_call() -> float:
        start = time.perf_counter()
        function(argument)
        return (time.perf_counter() - start) * 1000

    return round(statistics.median([time_call() for _ in range(REPEATS)][REPEATS // 10 :]), 3)


def _write_with_pillow(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def to_markdown(rows: list[dict[str, Any]]) -> str:
    return table(rows)
