"""Run decoders in child processes: a file that kills its decoder costs one request, not the worker.

Compressed pixels are decoded by native code: OpenCV with libpng, libjpeg-turbo and libtiff; Pillow, GDCM and CharLS.
That code meets whatever a caller sends. So it runs in children of the worker, one call at a time in each, with limits
on memory and processor time that grow with the pixels. Uncompressed DICOM pixels meet no such code; the worker reads
them itself.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from service.decoding.declared_size import DeclaredSize
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError
from service.resources.container_limits import cpu_cores
from service.resources.malloc_options import return_freed_memory
from service.resources.process_limits import forbid_core_dumps
from service.resources.worker_count import decoder_count, worker_count
from service.resources.worker_memory import FRAME_MEMORY, MIB

log = logging.getLogger("bentoml.nervemask")

ATTEMPTS = 2
MIN_CALL_SECONDS, MAX_CALL_SECONDS = 2.0, 20.0  # of processor time
SECONDS_PER_MIB = 0.4  # of processor time, for each MiB of pixels; the slowest decoder needs a fifth of that
MAX_END_SECONDS = 30.0  # until a child that closed its socket has ended: it may give a GiB back
MIN_WAIT_SECONDS = 60.0  # on the clock, beside ten times the processor time: a machine may be busy
LIBRARIES_BYTES = 512 * MIB  # address space of a child's libraries; 25 MiB of it are the child's own
SPARE_BYTES = 128 * MIB  # address space of a call beside its pixels, mostly libraries that are loaded by the first call
# How a child ends over a file: native code fails, or a limit on processor time (SIGPROF) or on the clock (SIGALRM) is
# reached. Whoever ends it from outside, such as the kernel when memory is short, uses another signal.
FILE_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP", "SIGPROF", "SIGALRM")
NICENESS = 5  # costly files do not keep the cores from the workers, which also serve everybody else
ROOT = Path(__file__).parents[2]
# Only where libraries are found. The rest of the worker's environment may hold secrets.
ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
# Threads of OpenBLAS and arenas of malloc reserve address space.
ENVIRONMENT |= {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
MAX_DECODER_BYTES = LIBRARIES_BYTES + SPARE_BYTES + FRAME_MEMORY.limit.largest  # address space of a child
Decoder = Callable[..., DecodedPixels | np.ndarray]


class CallLimits(NamedTuple):
    """Limits of one call: processor time and time on the clock in seconds, and bytes of address space."""

    processor_seconds: float
    wait_seconds: float
    byte_count: int

    @classmethod
    def of_size(cls, size: DeclaredSize | None) -> "CallLimits":
        """Return the limits for a frame of this size; None: unknown."""
        if size is None:
            seconds, byte_count = MAX_CALL_SECONDS, MAX_DECODER_BYTES
        else:
            seconds = min(MAX_CALL_SECONDS, MIN_CALL_SECONDS + SECONDS_PER_MIB * size.stored_bytes / MIB)
            byte_count = SPARE_BYTES + size.decoder_bytes
        return cls(seconds, MIN_WAIT_SECONDS + 10 * seconds, byte_count)


class DecoderEndedError(Exception):
    """A decoder process ended during a call. by_file: nothing but the file can have ended it."""

    def __init__(self, reason: str, by_file: bool):
        super().__init__(reason)
        self.by_file = by_file


def run_in_decoder_process(decoder: Decoder, *arguments: Any, size: DeclaredSize | None = None) -> DecodedPixels:
    """Return `decoder(*arguments)`, computed in a child process. Several threads may call it at once.

    decoder: a function at the top of a module; it returns DecodedPixels, or integers of any shape without notes.
    arguments: anything that can be pickled.
    size: what the file declares, for the limits of the call; None: unknown.

    A child may be ended from outside, so a call that ends its child is tried once more.

    Raises the FrameError that `decoder` raises; FrameError 400 if the call ended two children, 503 if one of them may
    have been ended from outside; RuntimeError with the traceback of any other exception.
    """
    limits = CallLimits.of_size(size)
    by_file = True
    for _ in range(ATTEMPTS):
        try:
            return _call_idle_process(decoder, arguments, limits)
        except DecoderEndedError as error:
            log.error("a decoder process ended over a frame: %s", error)
            by_file &= error.by_file
    if by_file:
        message = "The decoder stopped: the frame's file is damaged, or needs too much memory or time."
        raise FrameError(ErrorCode.DECODER_ENDED, message)
    message = "The decoder was stopped from outside, for example because memory is short: try again."
    raise FrameError(ErrorCode.NO_DECODER, message)


def _call_idle_process(decoder: Decoder, arguments: tuple[Any, ...], limits: CallLimits) -> DecodedPixels:
    child = _idle_processes().get()
    try:
        if child is None or child.process.poll() is not None:
            child = DecoderProcess()
        return child.call(decoder, arguments, limits)
    finally:
        _idle_processes().put(child)


def call_decoder(decoder: Decoder, *arguments: Any, size: DeclaredSize | None = None) -> DecodedPixels:
    """Return `decoder(*arguments)`, computed in this process without limits. Raises the exceptions of the decoder."""
    result = decoder(*arguments)
    return result if isinstance(result, DecodedPixels) else DecodedPixels(result)


def start_decoder_process() -> None:
    """Start one child now, so that the first frame does not wait for it. The others start when they are needed."""
    _idle_processes().put(_idle_processes().get() or DecoderProcess())


@functools.cache
def _idle_processes() -> "queue.LifoQueue[DecoderProcess | None]":
    """Return `decoder_count` places: a child that waits for a call, or None. The last child used comes first."""
    places: queue.LifoQueue[DecoderProcess | None] = queue.LifoQueue()
    for _ in range(decoder_count(cpu_cores(), worker_count())):
        places.put(None)
    return places


class DecoderProcess:
    """A child that runs `serve`. The worker's end of their socket; the other end is the child's standard input."""

    def __init__(self) -> None:
        self.channel, child_end = socket.socketpair()
        self.replies = self.channel.makefile("rb")
        with child_end:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.decoding.decoder_process", str(MAX_DECODER_BYTES)],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=child_end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def call(self, decoder: Decoder, arguments: tuple[Any, ...], limits: CallLimits) -> DecodedPixels:
        """Send one call and return its result. Raises as `run_in_decoder_process` does, and DecoderEndedError."""
        try:
            # Unlike pickle.dumps, this makes no copy of the file.
            pickle.dump((limits, decoder, arguments), SimpleNamespace(write=self.channel.sendall))
            if not (line := self.replies.readline()):
                raise EOFError
            reply = json.loads(line)
            if "shape" in reply:
                pixels = np.empty(reply["shape"], np.dtype(reply["dtype"]))
                if self.replies.readinto(pixels.data.cast("B")) < pixels.nbytes:
                    raise EOFError
                return DecodedPixels(pixels, tuple(reply["notes"]))
        except Exception as error:  # after any failure, the child's next bytes could belong to the wrong call
            has_ended = isinstance(error, EOFError | OSError)  # its end of the socket is closed
            raise self._end(MAX_END_SECONDS if has_ended else 0) from error
        if "frame_error" in reply:
            code, message, status = reply["frame_error"]
            raise FrameError(ErrorCode(code), message, status)
        raise RuntimeError(reply["traceback"])

    def _end(self, seconds: float) -> DecoderEndedError:
        """End the child if it does not end by itself within `seconds`, and return how it ended."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return DecoderEndedError("its reply was damaged", by_file=True)
        if status >= 0:
            return DecoderEndedError(f"exit status {status}", by_file=status > 0)
        name = signal.Signals(-status).name
        return DecoderEndedError(name, by_file=name in FILE_SIGNALS)


def serve(max_bytes: int) -> None:
    """Run the child: read calls from standard input, answer each with a line of JSON and the pixels' bytes.

    max_bytes: of address space. Only the worker knows it: the child does not have the worker's environment.
    """
    import resource

    # Both signals are often sent to a whole process group. The worker still has requests to finish then.
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop_signal, signal.SIG_IGN)
    forbid_core_dumps()
    if sys.platform == "linux":  # elsewhere, libraries alone reserve more address space than the limit
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    return_freed_memory()
    os.nice(NICENESS)
    import cv2

    cv2.setNumThreads(1)  # the stack of each thread would take address space
    with socket.socket(fileno=os.dup(0)) as channel, channel.makefile("rb") as calls:
        while calls.peek(1):
            limits, decoder, arguments = pickle.load(calls)  # imports the decoder's module
            with _limited(limits, max_bytes):
                header, pixels = _run(decoder, arguments)
            channel.sendall(json.dumps(header).encode() + b"\n")
            channel.sendall(pixels.data.cast("B"))


@contextmanager
def _limited(limits: CallLimits, max_bytes: int) -> Iterator[None]:
    """Limit this process in the `with` block. The default action of SIGPROF and SIGALRM ends it."""
    import resource

    if sys.platform == "linux":
        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        allowed = min(max_bytes, used_bytes + limits.byte_count)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, max_bytes))
    signal.setitimer(signal.ITIMER_PROF, limits.processor_seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.wait_seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


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
    serve(int(sys.argv[1]))
