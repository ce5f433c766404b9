"""Run decoders in child processes: a file that kills its decoder costs one request, not the worker.

Compressed pixels are decoded by native code: OpenCV with libpng, libjpeg-turbo and libtiff; Pillow, GDCM and CharLS.
That code meets whatever a caller sends. So it runs in children of the worker, one call at a time in each, with limits
on memory and time. Uncompressed DICOM pixels meet no such code; the worker reads them itself.

The worker sends a pickled call and reads raw pixels back. It never unpickles what a child sends. A child ends when its
worker ends, for any reason: the operating system then closes the worker's end of their socket.
"""

import functools
import json
import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError
from service.machine_resources import CPU_WORKERS, cpu_cores, memory_bytes

log = logging.getLogger("bentoml.nervemask")

MAX_CALL_SECONDS = 20
LIBRARIES_BYTES = 2**29  # address space of a child's libraries; 55 MiB of it are resident
MIN_WORKING_BYTES, MAX_WORKING_BYTES = 2**27, 3 * 2**29  # address space of a child beside its libraries
ROOT = Path(__file__).parents[2]
# Only where libraries are found. The rest of the worker's environment may hold secrets.
ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}


def decoder_memory_limit(total_bytes: int, cores: int) -> int:
    """Return the address space of one decoder process, in bytes.

    total_bytes: memory of all processes together. cores: decoder processes of one worker. The decoders of all workers
    share half of `total_bytes`. A frame of 16 million pixels in 16-bit colour needs about half a GiB beside the
    libraries; with less, such a frame is refused.
    """
    share = total_bytes // 2 // (CPU_WORKERS * cores)
    return LIBRARIES_BYTES + min(max(share, MIN_WORKING_BYTES), MAX_WORKING_BYTES)


MAX_DECODER_BYTES = decoder_memory_limit(memory_bytes(), cpu_cores())
Decoder = Callable[..., DecodedPixels | np.ndarray]


def run_in_decoder_process(decoder: Decoder, *arguments: Any) -> DecodedPixels:
    """Return `decoder(*arguments)`, computed in a child process. Several threads may call it at once.

    decoder: a function at the top of a module; it returns DecodedPixels, or integers of any shape without notes.
    arguments: anything that can be pickled.

    Raises the FrameError that `decoder` raises; FrameError 400 if the child ends, exceeds its memory or takes longer
    than MAX_CALL_SECONDS; RuntimeError with the traceback of any other exception.
    """
    child = _idle_processes().get()
    try:
        if child is None or child.process.poll() is not None:
            child = DecoderProcess()
        return child.call(decoder, arguments)
    finally:
        _idle_processes().put(child)


def call_decoder(decoder: Decoder, *arguments: Any) -> DecodedPixels:
    """Return `decoder(*arguments)`, computed in this process. Raises the exceptions of the decoder."""
    result = decoder(*arguments)
    return result if isinstance(result, DecodedPixels) else DecodedPixels(result)


def start_decoder_process() -> None:
    """Start one child now, so that the first frame does not wait for it. The others start when they are needed."""
    _idle_processes().put(_idle_processes().get() or DecoderProcess())


@functools.cache
def _idle_processes() -> "queue.LifoQueue[DecoderProcess | None]":
    """Return one place for each CPU core: a child that waits for a call, or None. The last child used comes first."""
    places: queue.LifoQueue[DecoderProcess | None] = queue.LifoQueue()
    for _ in range(cpu_cores()):
        places.put(None)
    return places


class DecoderProcess:
    """A child that runs `serve`. The worker's end of their socket; the other end is the child's standard input."""

    def __init__(self) -> None:
        self.channel, child_end = socket.socketpair()
        self.replies = self.channel.makefile("rb")
        with child_end:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.decoding.decoder_process"],
                cwd=ROOT,
                env=ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"},  # OpenBLAS reserves address space for each thread
                stdin=child_end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def call(self, decoder: Decoder, arguments: tuple[Any, ...]) -> DecodedPixels:
        """Send one call and return its result. Raises as `run_in_decoder_process` does."""
        try:
            self.channel.sendall(pickle.dumps((MAX_CALL_SECONDS, decoder, arguments)))
            reply = json.loads(self.replies.readline())
            if "shape" in reply:
                pixels = np.empty(reply["shape"], np.dtype(reply["dtype"]))
                if self.replies.readinto(pixels.data.cast("B")) < pixels.nbytes:
                    raise EOFError
                return DecodedPixels(pixels, tuple(reply["notes"]))
        except Exception as error:  # after any failure, the child's next bytes could belong to the wrong call
            raise self._kill() from error
        if "frame_error" in reply:
            code, message, status = reply["frame_error"]
            raise FrameError(ErrorCode(code), message, status)
        raise RuntimeError(reply["traceback"])

    def _kill(self) -> FrameError:
        """End the child, log how it ended, and return the error for the caller."""
        self.process.kill()
        status = self.process.wait()
        log.error("a decoder process ended over a frame: %s", signal.Signals(-status).name if status < 0 else status)
        message = "The decoder stopped: the frame's file is damaged, or needs too much memory or time."
        return FrameError(ErrorCode.DECODER_ENDED, message)


def serve() -> None:
    """Run the child: read calls from standard input, answer each with a line of JSON and the pixels' bytes."""
    import resource

    # Both signals are often sent to a whole process group. The worker still has requests to finish then.
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop_signal, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold a patient's frame
    if sys.platform == "linux":  # elsewhere, libraries alone reserve more address space than the limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_DECODER_BYTES, MAX_DECODER_BYTES))
    import service.decoding.frame  # noqa: F401 - loads OpenCV before the first call

    with socket.socket(fileno=os.dup(0)) as channel, channel.makefile("rb") as calls:
        while calls.peek(1):
            seconds, decoder, arguments = pickle.load(calls)
            signal.alarm(seconds)  # SIGALRM ends this process
            header, pixels = _run(decoder, arguments)
            channel.sendall(json.dumps(header).encode() + b"\n")
            channel.sendall(pixels.data.cast("B"))
            signal.alarm(0)


def _run(decoder: Decoder, arguments: tuple[Any, ...]) -> tuple[dict[str, Any], np.ndarray]:
    """Return the reply: its header, and its pixels, which are empty after an exception."""
    try:
        decoded = call_decoder(decoder, *arguments)
        pixels = np.ascontiguousarray(decoded.pixels)
        return {"shape": pixels.shape, "dtype": pixels.dtype.str, "notes": decoded.notes}, pixels
    except FrameError as error:
        return {"frame_error": (error.code, error.message, error.status)}, np.empty(0)
    except MemoryError:  # the process may be in any state: end it
        raise
    except Exception:
        return {"traceback": traceback.format_exc()}, np.empty(0)


if __name__ == "__main__":
    serve()
