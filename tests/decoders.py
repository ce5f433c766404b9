"""Functions to run in a decoder process, each with its own way to end. Every child imports this light module."""

import ctypes
import os
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

from service.decoding.decoder_process import MAX_DECODER_BYTES
from service.decoding.image_file import decode_picture
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError

ABORT_MARK = b"abort the decoder of this file"  # at the end of a file, for decode_or_abort


def abort() -> NoReturn:
    os.abort()


def read_null_pointer() -> None:
    ctypes.string_at(0)


def leave() -> NoReturn:
    os._exit(3)


def exceed_memory() -> np.ndarray:
    return np.ones(MAX_DECODER_BYTES, np.uint8)


def loop_forever() -> NoReturn:
    while True:
        pass


def sleep(seconds: float) -> np.ndarray:
    time.sleep(seconds)
    return np.zeros(1)


def allocate(byte_count: int) -> np.ndarray:
    np.ones(byte_count, np.uint8)
    return np.zeros(1)


def end_by_signals(folder: str, *signals: int) -> np.ndarray:
    """End each process that runs this with the next of the signals; then return."""
    number = len(os.listdir(folder))
    (Path(folder) / str(number)).touch()
    if number < len(signals):
        os.kill(os.getpid(), signals[number])
    return np.array(number)


def raise_frame_error() -> NoReturn:
    raise FrameError(ErrorCode.TOO_SMALL, "It is too small.")


def raise_key_error() -> NoReturn:
    raise KeyError("a bug in the decoder")


def process_id() -> np.ndarray:
    return np.array(os.getpid())


def has_variable(name: str) -> np.ndarray:
    return np.array(name in os.environ)


def decode_or_abort(data: bytes, page: int = 0) -> DecodedPixels:
    """Decode like the service, but abort for a file that ends with ABORT_MARK."""
    if data.endswith(ABORT_MARK):
        os.abort()
    return decode_picture(data, page)
