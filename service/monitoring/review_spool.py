"""Review spool: a folder of frames and masks for later review, limited in size. Off unless NERVEMASK_SPOOL names it.

Only the scan area is kept, as grey pixels without any header, under the digest that the audit log gives the frame. A
frame with an unknown scan area is not kept, because its banner may show a name. Neither is a frame whose scan area
covers (almost) the whole frame: some consoles state such a region although the frame has a banner.

Only the service's user can read the folder and its files.
"""

import contextlib
import logging
import os
import threading
from pathlib import Path

from service.decoding.frame import Frame
from service.inference.segmentation_result import FrameResult
from service.monitoring.audit_log import digest
from service.monitoring.prometheus_metrics import SPOOL_REFUSED_TOTAL
from service.rendering.image_encoding import encode_png

log = logging.getLogger("bentoml.nervemask")

DEFAULT_MAX_MIB = 1024
MAX_SCAN_AREA_SHARE = 0.95  # of the frame; a larger one leaves no room for a banner
FOLDER_MODE, FILE_MODE, OTHERS_MODE = 0o700, 0o600, 0o077
SCANS_PER_LIMIT = 8  # a worker measures the folder each time it has written max_bytes / SCANS_PER_LIMIT


class ReviewSpool:
    """Writes `DIGEST.frame.png` and `DIGEST.mask.png` into a folder. Thread-safe; workers may share a folder."""

    def __init__(self, folder: Path, max_bytes: int):
        self.folder = folder
        self.max_bytes = max_bytes
        self.bytes_since_scan = max_bytes  # written by this worker; the first write measures the folder
        self.lock = threading.Lock()
        self.has_refused = False

    def keep(self, result: FrameResult) -> None:
        """Write a frame and its mask. An error is only logged, because no response depends on the spool."""
        frame, scan_area = result.frame, result.frame.scan_area
        if scan_area is None:
            return
        if covers_banner(frame):
            self._refuse()
            return
        name = digest(frame.pixels)
        try:
            self._write(self.folder / f"{name}.frame.png", encode_png(frame.scan_pixels))
            self._write(self.folder / f"{name}.mask.png", encode_png(scan_area.crop(result.segmentation.mask)))
        except OSError as error:
            log.error("a frame could not be written to the review spool: %s", error)

    def _refuse(self) -> None:
        SPOOL_REFUSED_TOTAL.inc()
        if not self.has_refused:  # one console sends thousands of such frames
            self.has_refused = True
            log.warning(
                "a frame is not kept for review: its scan area covers more than %.0f %% of it, and may include a "
                "banner. Later ones are only counted (nervemask_spool_refused_total).",
                100 * MAX_SCAN_AREA_SHARE,
            )

    def _write(self, path: Path, data: bytes) -> None:
        with self.lock:
            if self.bytes_since_scan + len(data) > self.max_bytes // SCANS_PER_LIMIT:
                self._delete_oldest()
                self.bytes_since_scan = 0
            self.bytes_since_scan += len(data)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
                file.write(data)
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


def covers_banner(frame: Frame) -> bool:
    """Return whether the frame's scan area is so large that it includes a banner, if there is one."""
    area = frame.scan_area
    return area is not None and area.width * area.height > MAX_SCAN_AREA_SHARE * frame.width * frame.height


def _make_private(folder: Path) -> None:
    """Make the folder, readable by this user alone, also when it exists with another mode. Raises OSError."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_mode & OTHERS_MODE:
        try:
            folder.chmod(FOLDER_MODE)
        except OSError as error:
            remedy = f"run `chmod 700` as its owner, or name a new folder inside it ({folder / 'frames'})"
            message = f"other users can read the folder for review: {remedy}"
            raise PermissionError(error.errno, message, str(folder)) from error
    for file in folder.iterdir():  # of an earlier version
        with contextlib.suppress(FileNotFoundError):  # another worker has deleted it
            if file.stat().st_mode & OTHERS_MODE:
                file.chmod(FILE_MODE)


def open_review_spool() -> ReviewSpool | None:
    """Return the review spool that NERVEMASK_SPOOL and NERVEMASK_SPOOL_MIB configure; None without one.

    Raises OSError if the folder cannot be created or others can read it, and ValueError for a size that is not a whole
    number.
    """
    folder = os.environ.get("NERVEMASK_SPOOL")
    if not folder:
        return None
    _make_private(Path(folder))
    max_mib = os.environ.get("NERVEMASK_SPOOL_MIB") or str(DEFAULT_MAX_MIB)
    if not max_mib.isdecimal():
        raise ValueError(f"NERVEMASK_SPOOL_MIB must be a whole number of MiB, not {max_mib!r}")
    return ReviewSpool(Path(folder), int(max_mib) * 2**20)
