"""A table in memory that the supervisor and all workers share: each worker writes its own row, and reads the others.

The memory has no file, so a full disk cannot stop it. The supervisor creates it; the workers inherit its descriptor.
"""

import contextlib
import json
import mmap
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass, field

from service.resources.worker_count import worker_count

VARIABLE = "NERVEMASK_WORKER_TABLE"  # set by the supervisor: its process id and the descriptor
ROWS = 2 * worker_count()  # circus numbers a new worker before it forgets the one that it replaces
ROW_BYTES = 2**14
HEADER, ACTIVE_CLIENTS = struct.Struct("<qqi"), struct.Struct("<IdId")
TABLE_BYTES = ROWS * (ROW_BYTES + ACTIVE_CLIENTS.size)  # the active clients follow all rows
MAX_TEXT_CHARACTERS = 300  # of one problem; a row holds all of them


@dataclass(frozen=True)
class WorkerRow:
    """What a worker says about itself.

    pid: its process id. beats: grows by one each second while its event loop runs.
    model: name and version of the model that it serves; empty without one.
    problems: texts by kind; see `service.api.worker_health`.
    """

    pid: int
    beats: int
    model: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Whether the process exists."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


class WorkerTable:
    """The rows, by the number that circus gives a worker, from 1."""

    def __init__(self, memory: mmap.mmap):
        self.memory = memory

    @classmethod
    def create(cls) -> "WorkerTable":
        """Return a new table and let the processes that this one starts open it."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("workers")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.write(descriptor, bytes(TABLE_BYTES))
        os.set_inheritable(descriptor, True)
        os.environ[VARIABLE] = f"{os.getpid()} {descriptor}"
        return cls(mmap.mmap(descriptor, TABLE_BYTES))

    @classmethod
    def of_one_process(cls) -> "WorkerTable":
        """Return a table that no other process sees."""
        return cls(mmap.mmap(-1, TABLE_BYTES))

    @classmethod
    def open(cls) -> "WorkerTable":
        """Return the supervisor's table; a table of its own in a process without a supervisor."""
        if supervisor_pid() is None:
            return cls.of_one_process()
        return cls(mmap.mmap(int(os.environ[VARIABLE].split()[1]), TABLE_BYTES))

    def write(self, number: int, row: WorkerRow) -> None:
        """Write the row of a worker."""
        problems = {kind: text[:MAX_TEXT_CHARACTERS] for kind, text in row.problems.items()}
        text = json.dumps([row.model[:MAX_TEXT_CHARACTERS], problems], ensure_ascii=False).encode()
        start = self._start(number)
        row_bytes = HEADER.pack(row.pid, row.beats, len(text)) + text
        self.memory[start : start + len(row_bytes)] = row_bytes

    def read(self, number: int) -> WorkerRow | None:
        """Return the row of a worker; None if no worker has written it."""
        start = self._start(number)
        pid, beats, length = HEADER.unpack(self.memory[start : start + HEADER.size])
        if not pid:
            return None
        model, problems = "", {}
        with contextlib.suppress(ValueError):  # the row is being written right now: only its texts can be mixed
            start += HEADER.size
            model, problems = json.loads(self.memory[start : start + length])
        return WorkerRow(pid, beats, model, problems)

    def write_active(self, number: int, client: str, until: float) -> None:
        """Write until when a client of a worker is active. The row keeps the two clients that were active last.

        until: in seconds of time.monotonic.
        """
        start = ROWS * ROW_BYTES + (number - 1) % ROWS * ACTIVE_CLIENTS.size
        last, last_until, before, before_until = ACTIVE_CLIENTS.unpack_from(self.memory, start)
        client_hash = zlib.crc32(client.encode())
        if client_hash != last:
            before, before_until = last, last_until
        ACTIVE_CLIENTS.pack_into(self.memory, start, client_hash, until, before, before_until)

    def others_active_until(self, client: str) -> float:
        """Return until when a client other than this one is active in any worker; 0 without one."""
        client_hash, latest = zlib.crc32(client.encode()), 0.0
        for last, last_until, before, before_until in ACTIVE_CLIENTS.iter_unpack(self.memory[ROWS * ROW_BYTES :]):
            for other, until in ((last, last_until), (before, before_until)):
                if other != client_hash:
                    latest = max(latest, until)
        return latest

    def _start(self, number: int) -> int:
        return (number - 1) % ROWS * ROW_BYTES


def supervisor_pid() -> int | None:
    """Return the process id of the supervisor that started this worker; None in a process without one."""
    words = os.environ.get(VARIABLE, "").split()
    return int(words[0]) if words else None
