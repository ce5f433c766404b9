"""Review spool: a folder of frames and masks for later review, limited in size. Off unless NERVEMASK_SPOOL names it.

Only the scan area is kept, as grey pixels without any header, under the digest that the audit log gives the frame. A
frame with an unknown scan area is not kept, because its banner may show a name.
"""

import logging
import os
import threading
from pathlib import Path

from service.inference.results import FrameResult
from service.monitoring.audit_log import digest
from service.rendering import images

log = logging.getLogger("bentoml.nervemask")

DEFAULT_MAX_MIB = 1024
SCANS_PER_LIMIT = 8  # a worker measures the folder each time it has written max_bytes / SCANS_PER_LIMIT


class ReviewSpool:
    """Writes `DIGEST.frame.png` and `DIGEST.mask.png` into a folder. Thread-safe; workers may share a folder."""

    def __init__(self, folder: Path, max_bytes: int):
        self.folder = folder
        self.max_bytes = max_bytes
        self.bytes_since_scan = max_bytes  # written by this worker; the first write measures the folder
        self.lock = threading.Lock()

    def keep(self, result: FrameResult) -> None:
        """Write a frame and its mask. An error is only logged, because no response depends on the spool."""
        frame, scan_area = result.frame, result.frame.scan_area
        if scan_area is None:
            return
        name = digest(frame.pixels)
        try:
            self._write(self.folder / f"{name}.frame.png", images.encode_png(frame.scan_pixels))
            self._write(self.folder / f"{name}.mask.png", images.encode_png(scan_area.crop(result.segmentation.mask)))
        except OSError as error:
            log.error("a frame could not be written to the review spool: %s", error)

    def _write(self, path: Path, data: bytes) -> None:
        with self.lock:
            if self.bytes_since_scan + len(data) > self.max_bytes // SCANS_PER_LIMIT:
                self._delete_oldest()
                self.bytes_since_scan = 0
            self.bytes_since_scan += len(data)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def _delete_oldest(self) -> None:
        """Delete the oldest files until a quarter of the limit is free, for this worker and the others."""
        files = sorted(
            (entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(self.folder)
        )
        total_bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total_bytes <= self.max_bytes * 3 // 4:
                break
            Path(path).unlink(missing_ok=True)
            total_bytes -= size


def open_review_spool() -> ReviewSpool | None:
    """Return the review spool that NERVEMASK_SPOOL and NERVEMASK_SPOOL_MIB configure; None without one.

    Raises OSError if the folder cannot be created, and ValueError for a size that is not a whole number.
    """
    folder = os.environ.get("NERVEMASK_SPOOL")
    if not folder:
        return None
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    max_mib = os.environ.get("NERVEMASK_SPOOL_MIB") or str(DEFAULT_MAX_MIB)
    if not max_mib.isdecimal():
        raise ValueError(f"NERVEMASK_SPOOL_MIB must be a whole number of MiB, not {max_mib!r}")
    return ReviewSpool(Path(folder), int(max_mib) * 2**20)
