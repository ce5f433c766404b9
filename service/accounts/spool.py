"""Frames with their masks, kept for review: off unless NERVEMASK_SPOOL names a folder, and bounded in size.

Only the scan area is kept, as grey pixels without any header, under the digest that the audit knows it by. A frame
whose file does not tell where the scan lies is not kept: its banner may hold a name.
"""

import logging
import os
import threading
from pathlib import Path

from service import pictures
from service.accounts.audit import digest
from service.segmenter import Seen

log = logging.getLogger("bentoml.nervemask")

DEFAULT_MIB = 1024
PARTS = 8  # each worker looks at the whole after writing one part; then the oldest give way


class Spool:
    """A folder of `DIGEST.frame.png` and `DIGEST.mask.png`. Of several workers each has one on the same folder."""

    def __init__(self, folder: Path, limit_bytes: int):
        self.folder, self.limit = folder, limit_bytes
        self.unlooked = limit_bytes  # bytes written since the folder was looked at
        self.lock = threading.Lock()

    def keep(self, seen: Seen) -> None:
        """A fault is logged and no more: the spool is nothing that an answer depends on."""
        area = seen.frame.area
        if area is None:
            return
        name = digest(seen.frame.pixels)
        try:
            for kind, pixels in (("frame", seen.frame.scan), ("mask", area.of(seen.found.mask))):
                self._write(self.folder / f"{name}.{kind}.png", pictures.png(pixels))
        except OSError as fault:
            log.error("a frame could not be kept for review: %s", fault)

    def _write(self, path: Path, data: bytes) -> None:
        with self.lock:
            if self.unlooked + len(data) > self.limit // PARTS:
                self._make_room()
            self.unlooked += len(data)
        new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            new.write_bytes(data)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        """The oldest are deleted until a quarter is free: for this worker's next part, and for another's."""
        files = sorted(
            (entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(self.folder)
        )
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit * 3 // 4:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        self.unlooked = 0


def open_spool() -> Spool | None:
    """The spool that the environment asks for. Raises OSError where its folder cannot be made, ValueError."""
    folder = os.environ.get("NERVEMASK_SPOOL")
    if not folder:
        return None
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    mib = os.environ.get("NERVEMASK_SPOOL_MIB") or str(DEFAULT_MIB)
    if not mib.isdecimal():
        raise ValueError(f"NERVEMASK_SPOOL_MIB is a whole number of MiB, not {mib!r}")
    return Spool(Path(folder), int(mib) * 2**20)
