"""Decoders in a process of their own: a file that kills one costs its request, and not the worker.

What makes pixels of compressed bytes is native code: OpenCV with libpng, libjpeg-turbo and libtiff; Pillow, GDCM and
CharLS. It meets whatever is sent. So it runs in children of the worker, one call at a time in each, with a limit on
memory and time. Pixels that stand uncompressed in a DICOM file meet no such code, and stay in the worker.

A worker sends a child a pickled call and gets pixels back; it unpickles nothing that comes from there. There and back
costs 0.12 ms of a PNG of 580x420 (1.58 ms against 1.46, medians, 2 cores of an AMD EPYC, 2026-11-24). A child ends when
its worker does, however that ends: the system then closes the worker's end of their socket.
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

from service.errors import FrameError
from service.machine import WORKERS, cores, memory

log = logging.getLogger("bentoml.nervemask")

SECONDS = 20  # of one call
LIBRARIES_BYTES = 2**29  # addresses of a child's libraries, of which 55 MiB are resident
ROOT = Path(__file__).parent.parent
# Where libraries lie, and nothing else of the worker's environment: it may hold secrets.
ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}


def most_memory(memory: int, cores: int) -> int:
    """Bytes of one child's addresses, so that all of all workers take half the memory at the most.

    memory: bytes of all processes together. What a frame of 16 million pixels in 16-bit colour needs is there from
    about half a GiB for each decoder on; with less, such a frame is refused as too costly.
    """
    share = memory // 2 // (WORKERS * cores)
    return LIBRARIES_BYTES + min(max(share, 2**27), 3 * LIBRARIES_BYTES)


MEMORY_BYTES = most_memory(memory(), cores())
Decoder = Callable[..., np.ndarray]


def isolated(decoder: Decoder, *arguments: Any) -> np.ndarray:
    """What a module's function makes of picklable arguments: whole numbers of any shape. From any thread.

    Raises FrameError as the function does, and 400 where the child did not outlive the call; RuntimeError for any
    other exception of the function.
    """
    child = _children().get()
    try:
        if child is None or child.process.poll() is not None:
            child = Child()
        return child.call(decoder, arguments)
    finally:
        _children().put(child)


def start_one() -> None:
    """So that the first frame does not wait for it; the others are started when they are needed."""
    _children().put(_children().get() or Child())


@functools.cache
def _children() -> "queue.LifoQueue[Child | None]":
    """Places for as many as there are cores, those that run on top."""
    places: queue.LifoQueue[Child | None] = queue.LifoQueue()
    for _ in range(cores()):
        places.put(None)
    return places


class Child:
    """A process that runs `serve`, and the worker's end of the socket that is its standard input."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        self.answers = self.channel.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.isolation"],
                cwd=ROOT,
                env=ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1"},  # nothing here needs its buffers
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def call(self, decoder: Decoder, arguments: tuple[Any, ...]) -> np.ndarray:
        try:
            self.channel.sendall(pickle.dumps((SECONDS, decoder, arguments)))
            told = json.loads(self.answers.readline())
            if "shape" in told:
                pixels = np.empty(told["shape"], np.dtype(told["type"]))
                if self.answers.readinto(pixels.data.cast("B")) < pixels.nbytes:
                    raise EOFError
                return pixels
        except Exception as fault:  # whatever it was, what this child says next belongs to no later call
            raise self._ended() from fault
        if "refused" in told:
            raise FrameError(**told["refused"])
        raise RuntimeError(told["failed"])

    def _ended(self) -> FrameError:
        self.process.kill()
        status = self.process.wait()
        log.error("a decoder ended over a frame: %s", signal.Signals(-status).name if status < 0 else status)
        return FrameError("decoder_ended", "The frame's file is damaged, or too costly: its decoder broke down.", 400)


def serve() -> None:
    """The child: calls come in on standard input, and their pixels go out."""
    import resource

    for stop in (signal.SIGINT, signal.SIGTERM):  # often sent to all of a group; the worker has answers to end
        signal.signal(stop, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold somebody's frame
    if sys.platform == "linux":  # elsewhere libraries take more addresses than this by themselves
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import service.frame  # noqa: F401 - before the first file comes

    with socket.socket(fileno=os.dup(0)) as channel, channel.makefile("rb") as calls:
        while calls.peek(1):
            seconds, decoder, arguments = pickle.load(calls)
            signal.alarm(seconds)  # it ends this process
            head, pixels = _called(decoder, arguments)
            channel.sendall(json.dumps(head).encode() + b"\n")
            channel.sendall(pixels.data.cast("B"))
            signal.alarm(0)


def _called(decoder: Decoder, arguments: tuple[Any, ...]) -> tuple[dict[str, Any], np.ndarray]:
    try:
        pixels = np.ascontiguousarray(decoder(*arguments))
        return {"shape": pixels.shape, "type": pixels.dtype.str}, pixels
    except FrameError as fault:
        return {"refused": vars(fault)}, np.empty(0)
    except MemoryError:  # nothing is sure any more
        raise
    except Exception:
        return {"failed": traceback.format_exc()}, np.empty(0)


if __name__ == "__main__":
    serve()
