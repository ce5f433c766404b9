"""Append lines to the audit log: each one whole, or an OSError.

A thread writes, because a write can hang: standard output may be a pipe that nobody reads, and a disk may not respond.
A caller waits MAX_WRITE_SECONDS and then gets an OSError. After a failed write the file may end inside a line; the next
line then starts with a newline. A line also records how many lines were lost meanwhile.
"""

import contextlib
import errno
import functools
import json
import os
import queue
import select
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.monitoring.writer_thread import WriterThread

STANDARD_OUTPUT = "-"
STDOUT_DESCRIPTOR = 1
MAX_WRITE_SECONDS = 2.0
MAX_QUEUED_LINES = 1024
HANGING = "it takes no lines: nobody reads standard output, or the disk does not respond"


@dataclass
class LostLines:
    """Lines that could not be written. since: ISO time of the first; reason: of the last; lines: how many."""

    since: str
    reason: str
    lines: int = 0


class AuditLogFile:
    """Writes lines to the file that NERVEMASK_AUDIT names at that moment. Thread-safe."""

    def __init__(self) -> None:
        self.thread = WriterThread("audit", MAX_QUEUED_LINES)
        self.lost: LostLines | None = None
        self.lock = threading.Lock()  # of `lost`
        self.torn = False  # the last write of this process ended inside a line

    def submit(self, line: dict[str, Any]) -> Future[None]:
        """Queue a line, which gets the current time, and return its future. Raises OSError if writing hangs."""
        if self.hangs:
            raise self._lose(OSError(errno.EAGAIN, HANGING))
        return self._submit(functools.partial(self._write, encode_line(line)))

    def write(self, line: dict[str, Any]) -> None:
        """Write a line with the current time. Raises OSError."""
        self.wait(self.submit(line))

    def wait(self, future: Future[None]) -> None:
        """Wait for a submitted line. Raises OSError."""
        try:
            future.result(0 if self.hangs else MAX_WRITE_SECONDS)  # several lines wait once, not once each
        except TimeoutError:
            if future.cancel():
                raise self._lose(OSError(errno.EAGAIN, HANGING)) from None
            if not future.done():  # this line will be written when the write ends
                raise OSError(errno.EAGAIN, HANGING) from None
            future.result()

    @property
    def hangs(self) -> bool:
        """Whether a write has not ended in time."""
        return self.thread.write_seconds() > MAX_WRITE_SECONDS

    def find_problem(self) -> str | None:
        """Return why no line can be written now; None if one can. Records lost lines as soon as it can."""
        if self.hangs:
            return HANGING
        try:
            if self.lost:
                self.wait(self._submit(self._write_lost))
            _check_target()
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _submit(self, write: Callable[[], None]) -> Future[None]:
        try:
            return self.thread.submit(write)
        except queue.Full:
            raise self._lose(OSError(errno.EAGAIN, HANGING)) from None

    def _lose(self, error: OSError) -> OSError:
        """Count a lost line. Return the error."""
        with self.lock:
            lost = self.lost or LostLines(_now(), "")
            self.lost = LostLines(lost.since, error.strerror or str(error), lost.lines + 1)
        return error

    def _write(self, text: bytes) -> None:
        """Write one line in the writer's thread, after the line about lost ones."""
        try:
            self._write_lost()
            with _opened() as descriptor, _locked(descriptor):
                self._append(descriptor, text)
        except OSError as error:
            raise self._lose(error) from None

    def _write_lost(self) -> None:
        with self.lock:
            lost, self.lost = self.lost, None
        if not lost:
            return
        line = {"event": "lost_lines", "since": lost.since, "lines": lost.lines, "reason": lost.reason}
        try:
            with _opened() as descriptor, _locked(descriptor):
                self._append(descriptor, encode_line(line))
        except OSError:
            with self.lock:
                later = self.lost.lines if self.lost else 0
                self.lost = LostLines(lost.since, lost.reason, lost.lines + later)
            raise

    def _append(self, descriptor: int, line: bytes) -> None:
        """Write one whole line, at the start of a line of the file. Raises OSError."""
        text = b"\n" + line if self._ends_inside_line(descriptor) else line
        written_bytes = os.write(descriptor, text)
        self.torn = written_bytes != len(text)
        if self.torn:
            raise OSError(errno.ENOSPC, f"only {written_bytes} of {len(text)} bytes could be written")
        if descriptor == STDOUT_DESCRIPTOR or not _is_file(descriptor):
            return
        # Meanwhile another worker may have left an incomplete line: this one would continue it.
        start = os.lseek(descriptor, 0, os.SEEK_CUR) - len(line)
        if start > 0 and os.pread(descriptor, 1, start - 1) != b"\n":
            self._append(descriptor, line)

    def _ends_inside_line(self, descriptor: int) -> bool:
        try:
            size = os.fstat(descriptor).st_size if _is_file(descriptor) else 0
            return os.pread(descriptor, 1, size - 1) != b"\n" if size else self.torn
        except OSError:  # standard output that cannot be read
            return self.torn


def encode_line(line: dict[str, Any]) -> bytes:
    """Return the JSON line with the current time."""
    return (json.dumps({"time": _now(), **line}, separators=(",", ":")) + "\n").encode()


def check_opens() -> None:
    """Raise OSError if the audit file cannot be opened for writing."""
    with _opened():
        pass


def _check_target() -> None:
    """Raise OSError if the audit log cannot be opened for writing, its disk is full, or nobody reads its pipe."""
    with _opened() as descriptor:
        if not _is_file(descriptor):
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(MAX_WRITE_SECONDS * 1000):
                raise OSError(errno.EAGAIN, HANGING)
            return
        disk = os.fstatvfs(descriptor)
        free_blocks = disk.f_bavail if os.geteuid() else disk.f_bfree
        if disk.f_blocks and not free_blocks:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _opened() -> Iterator[int]:
    """Open the audit log; the context is its file descriptor. Raises OSError."""
    path = os.environ.get("NERVEMASK_AUDIT") or STANDARD_OUTPUT
    if path == STANDARD_OUTPUT:
        yield STDOUT_DESCRIPTOR
        return
    # Readable too: the last byte shows whether the last line is whole.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Let the other workers wait: while one of them writes, the file may seem to end inside a line.

    The workers share standard output, so they cannot lock it for each other. Some file systems have no locks.
    """
    import fcntl  # Windows does not have it

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
