"""How the processes of the service share its memory, and how the clients of a worker share the worker's part.

    memory = supervisor and libraries + workers x (network + decoder processes + uploads + streams + frames) + reserve

Uploads count in full, although large ones are files: /tmp may be in memory. Frames are what it takes to decode a frame,
to segment it and to render the response, in the worker and in its decoder process. Nothing of either is read before its
bytes are reserved.
"""

import sys
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from service.errors import ErrorCode, FrameError
from service.resources.container_limits import cpu_cores, memory_bytes
from service.resources.gpu_detection import has_gpu
from service.resources.worker_count import decoder_count, worker_count

MIB = 2**20
SHARED_BYTES = 192 * MIB  # the supervisor, and the libraries that all processes map
NETWORK_BYTES = 256 * MIB  # a worker with its network, the next champion's network, and unread bytes of connections
GPU_LIBRARIES_BYTES = 1024 * MIB  # CUDA and cuDNN, of each worker, beside its network
DECODER_BYTES = 40 * MIB  # a decoder process that waits for a call
RESERVE_SHARE = 0.05  # of the memory, for what nobody counts
MAX_UPLOADS_BYTES = 2048 * MIB  # of one worker
STREAMS_SHARE = 0.25  # of the bytes of uploads, beside them
MIN_UPLOADS_SHARE = 0.3  # of a worker's bytes, if they are few
ENOUGH_FRAME_BYTES = 512 * MIB  # of one worker, before uploads get more than MIN_UPLOADS_SHARE
FREE_SHARES = 7  # of SharedLimit: one client gets at most seven eighths
MAX_WAIT_SECONDS = 10.0  # for the memory of a frame


class WorkerMemory(NamedTuple):
    """Bytes of one worker for uploads, for the messages of streams, and for frames."""

    uploads: int
    streams: int
    frames: int


def share_memory(memory: int, cores: int, workers: int, gpu: bool = False) -> WorkerMemory:
    """Return the part of one worker.

    memory: bytes of all processes together. cores: of the CPU. gpu: whether the network runs on a GPU.
    """
    network = NETWORK_BYTES + GPU_LIBRARIES_BYTES * gpu
    fixed = SHARED_BYTES + workers * (network + decoder_count(cores, workers) * DECODER_BYTES)
    rest = max(0, int(memory * (1 - RESERVE_SHARE)) - fixed) // workers
    most = min(MAX_UPLOADS_BYTES, memory // 4 // workers)
    uploads = min(most, round(max(MIN_UPLOADS_SHARE * rest, (rest - ENOUGH_FRAME_BYTES) / (1 + STREAMS_SHARE))))
    streams = round(STREAMS_SHARE * uploads)
    return WorkerMemory(uploads, streams, rest - uploads - streams)


WORKER_MEMORY = share_memory(memory_bytes(), cpu_cores(), worker_count(), has_gpu())


class SharedLimit:
    """A number of things, for example requests or bytes, that clients share. Thread-safe.

    A client may hold at most `max_per_client`, and at most `free_shares` times what is still free (Choudhury and Hahne
    1998). So one client never takes all: with 7 free shares it gets seven eighths, and two get seven fifteenths each.

    maximum: of all clients together.
    """

    def __init__(self, maximum: int, max_per_client: int | None = None, free_shares: int = 1):
        self.maximum = maximum
        self.max_per_client = maximum if max_per_client is None else max_per_client
        self.free_shares = free_shares
        self.held: Counter[str] = Counter()
        self.lock = threading.RLock()

    @property
    def largest(self) -> int:
        """Return the most that one client can hold while it is alone."""
        return min(self.max_per_client, self.maximum * self.free_shares // (1 + self.free_shares))

    def room(self, client: str) -> int:
        """Return how much a client may still reserve now."""
        held, free = self.held[client], self.maximum - self.held.total()
        by_share = (self.free_shares * free - held) // (1 + self.free_shares)
        return max(0, min(self.max_per_client - held, max(by_share, min(1 - held, free))))

    def has_room(self, client: str, count: int = 1) -> bool:
        """Return whether `reserve` would succeed."""
        return count <= self.room(client)

    def reserve(self, client: str, count: int = 1) -> bool:
        """Reserve for a client; return False, and reserve nothing, if the client would hold too much."""
        with self.lock:
            if not self.has_room(client, count):
                return False
            self.held[client] += count
            return True

    def release(self, client: str, count: int = 1) -> None:
        """Give back what was reserved."""
        with self.lock:
            self.held[client] -= count
            if not self.held[client]:
                del self.held[client]


@dataclass(eq=False)
class _WaitingFrame:
    byte_count: int
    granted: threading.Event = field(default_factory=threading.Event)


class FrameMemory:
    """The bytes of a worker for frames. A frame waits for its bytes; the clients take turns. Thread-safe.

    A frame that fits may overtake one that does not, but only a frame of a client that holds nothing: otherwise a large
    frame would wait for ever.
    """

    def __init__(self, max_bytes: int):
        self.limit = SharedLimit(max_bytes, free_shares=FREE_SHARES)
        self.waiting: OrderedDict[str, deque[_WaitingFrame]] = OrderedDict()  # by client, in the order of their turns

    def reserve(self, client: str, byte_count: int) -> None:
        """Wait for the bytes of a frame.

        Raises FrameError: 413 if they never fit, 503 after MAX_WAIT_SECONDS.
        """
        if byte_count > self.limit.largest:
            raise _too_large_error(byte_count, self.limit.largest)
        with self.limit.lock:
            if self.try_reserve(client, byte_count):
                return
            frame = _WaitingFrame(byte_count)
            self.waiting.setdefault(client, deque()).append(frame)
        if not frame.granted.wait(MAX_WAIT_SECONDS):
            with self.limit.lock:
                if not frame.granted.is_set():
                    self._remove(client, frame)
                    raise FrameError(ErrorCode.NO_MEMORY, "The service has no memory for this frame now: try again.")

    def try_reserve(self, client: str, byte_count: int) -> bool:
        """Reserve bytes now; return False if the client has to wait for them."""
        with self.limit.lock:
            may_overtake = not self.waiting or not self.limit.held[client]
            return client not in self.waiting and may_overtake and self.limit.reserve(client, byte_count)

    def release(self, client: str, byte_count: int) -> None:
        """Give bytes back, and grant waiting frames theirs."""
        with self.limit.lock:
            self.limit.release(client, byte_count)
            while self._grant_one():
                pass

    def _grant_one(self) -> bool:
        """Grant the next frame that may have its bytes. The lock is held."""
        for position, (client, frames) in enumerate(self.waiting.items()):
            may_overtake = position == 0 or not self.limit.held[client]
            if may_overtake and self.limit.reserve(client, frames[0].byte_count):
                frames[0].granted.set()
                self._remove(client, frames[0])
                return True
        return False

    def _remove(self, client: str, frame: _WaitingFrame) -> None:
        """Take a frame out of the queue; its client's next turn comes after those of the others."""
        frames = self.waiting.pop(client)
        frames.remove(frame)
        if frames:
            self.waiting[client] = frames


def _too_large_error(byte_count: int, most: int) -> FrameError:
    message = (
        f"The frame needs {byte_count // MIB + 1} MiB of memory, and the service has {most // MIB} MiB for one frame. "
        "Send a smaller frame, or give the service more memory."
    )
    return FrameError(ErrorCode.TOO_MANY_PIXELS, message)


FRAME_MEMORY = FrameMemory(WORKER_MEMORY.frames)
FILE_MEMORY = SharedLimit(WORKER_MEMORY.uploads, free_shares=FREE_SHARES)  # uploads, and files that are made of them


@dataclass
class RequestMemory:
    """What one request or stream holds. Threads may share it, except for `frame_bytes` and `file_bytes`.

    client: who sends the request. frames, files: where it reserves bytes.
    rendered_bytes_per_pixel: what it takes to render the response for a frame, per pixel of the frame.
    frame_bytes: for the only frame of the request, until its response is sent.
    file_bytes: of the upload and of files that are made of it, until the end of the request.
    """

    client: str
    frames: FrameMemory = field(default_factory=lambda: FRAME_MEMORY)
    files: SharedLimit = field(default_factory=lambda: FILE_MEMORY)
    rendered_bytes_per_pixel: int = 0
    frame_bytes: int = 0
    file_bytes: int = 0

    def reserve_only_frame(self, byte_count: int) -> None:
        """Wait for the bytes of the only frame of the request. Raises FrameError (413, 503)."""
        self.frames.reserve(self.client, byte_count)
        self.frame_bytes += byte_count

    def shrink_only_frame(self, byte_count: int) -> None:
        """Keep only so many bytes of the frame: those of the rendered response."""
        if byte_count < self.frame_bytes:
            self.frames.release(self.client, self.frame_bytes - byte_count)
            self.frame_bytes = byte_count

    def reserve_file(self, byte_count: int, wanted_bytes: int = 0) -> int:
        """Reserve bytes of an upload or of a file that is made of it, more of them if there is room; return how many.

        Raises FrameError: 413 if `byte_count` never fits, 429 if it does not fit now.
        """
        if self.file_bytes + byte_count > self.files.largest:
            message = f"The file takes more than the {self.files.largest // MIB} MiB that the service has for one."
            raise FrameError(ErrorCode.TOO_LARGE, message)
        with self.files.lock:
            byte_count = max(byte_count, min(wanted_bytes, self.files.room(self.client)))
            if not self.files.reserve(self.client, byte_count):
                message = "The service holds too many bytes of files at once: try again in a few seconds."
                raise FrameError(ErrorCode.TOO_MANY, message)
        self.file_bytes += byte_count
        return byte_count

    def release_file(self, byte_count: int) -> None:
        """Give bytes of a file back."""
        self.files.release(self.client, byte_count)
        self.file_bytes -= byte_count

    def release(self) -> None:
        """Give everything back, at the end of the request."""
        self.shrink_only_frame(0)
        self.release_file(self.file_bytes)


# For programs that decode their own files, such as training.
UNLIMITED_MEMORY = RequestMemory("", FrameMemory(sys.maxsize), SharedLimit(sys.maxsize, free_shares=sys.maxsize))
