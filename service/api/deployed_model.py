"""The deployed champion, and its replacement without a restart.

NERVEMASK_MODEL names the champion's folder, or a symbolic link to it. When another model folder appears there, it is
loaded beside the current one and must pass its self-test; only then it gets new requests. Requests in flight finish
with the old champion. A folder that fails changes nothing, and the log says why.

`python -m service.champion` changes the link: see `promote` and `rollback`.
"""

import logging
import os
import threading
from pathlib import Path

from service.errors import ModelFolderError
from service.inference.segmenter import Segmenter
from service.inference.self_test import run_self_test
from service.monitoring.monitored_segmenter import MonitoredSegmenter

log = logging.getLogger("bentoml.nervemask")

CHECK_INTERVAL_SECONDS = 2.0
Fingerprint = tuple[tuple[str, int, int, int], ...]  # name, inode, modification time and size of each file


def load_and_test(folder: Path) -> Segmenter:
    """Return the segmenter of a model folder that passes its self-test. Raises ModelFolderError."""
    segmenter = Segmenter(folder)
    run_self_test(folder, segmenter)
    return segmenter


class DeployedModel:
    """The champion that responds to requests. A request reads `segmenter` once and keeps it.

    If the folder cannot be served, the previous champion is served, if there is one: a worker that replaces a crashed
    one may start when the folder is broken.

    folder: the model folder, or a symbolic link to it.

    Raises ModelFolderError if neither can be served.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.fingerprint = folder_fingerprint(folder) if folder.exists() else ()
        try:
            segmenter = load_and_test(folder.resolve())
        except ModelFolderError as error:
            if not previous_link(folder).exists():
                raise
            log.critical("%s The previous champion is served instead.", error)
            segmenter = load_and_test(previous_link(folder).resolve())
        self.segmenter = MonitoredSegmenter(segmenter)
        self.segmenter.activate()

    def watch(self) -> None:
        """Check for another champion every CHECK_INTERVAL_SECONDS, in a daemon thread."""
        threading.Thread(target=self._watch, daemon=True, name="champion").start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(CHECK_INTERVAL_SECONDS):
            self.reload_if_changed()

    def reload_if_changed(self) -> None:
        """Deploy the champion in the folder if it is another one and passes its self-test."""
        try:
            fingerprint = folder_fingerprint(self.folder)
        except OSError:  # the folder is being replaced right now
            return
        if fingerprint == self.fingerprint:
            return
        self.fingerprint = fingerprint
        old = self.segmenter
        try:
            new = MonitoredSegmenter(load_and_test(self.folder.resolve()))
        except Exception as error:
            expected = isinstance(error, ModelFolderError)
            log.error(
                "the new champion is rejected, version %s stays deployed: %s",
                old.card.version,
                error,
                exc_info=not expected,
            )
            return
        old.deactivate()
        new.activate()  # after deactivate(): both may have the same version, and then the same metric
        self.segmenter = new
        log.info(
            "the champion is now version %s (run %s, %s), before it was version %s (run %s)",
            new.card.version,
            new.card.run_id or "unknown",
            self.folder.resolve(),
            old.card.version,
            old.card.run_id or "unknown",
        )


def folder_fingerprint(folder: Path) -> Fingerprint:
    """Return a value that changes when a file of the folder changes. Raises OSError."""
    stats = ((entry.name, entry.stat()) for entry in os.scandir(folder))
    return tuple(sorted((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats))


def previous_link(link: Path) -> Path:
    """Return the path of the symbolic link to the previous champion."""
    return link.with_name(f"{link.name}.before")


def promote(link: Path, folder: Path) -> None:
    """Point `link` to the model folder `folder` in one atomic step, after the self-test; create the link if needed.

    `previous_link(link)` then points to the previous champion. Raises ModelFolderError and OSError.
    """
    if link.exists() and not link.is_symlink():
        raise ModelFolderError(
            f"{link} is a folder, not a symbolic link: set NERVEMASK_MODEL to a link, or to a path that does not exist."
        )
    load_and_test(folder)
    previous = link.resolve() if link.is_symlink() else None
    _replace_link(link, folder)
    if previous:
        _replace_link(previous_link(link), previous)


def rollback(link: Path) -> None:
    """Promote the previous champion. The current one becomes the previous one. Raises ModelFolderError and OSError."""
    previous = previous_link(link)
    if not previous.exists():
        raise ModelFolderError(f"{previous} does not exist: there is no previous champion.")
    promote(link, previous.resolve())


def _replace_link(link: Path, folder: Path) -> None:
    """Point the link to the folder. The link is relative: a container sees the folders under another path."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(folder, link.parent.resolve()))
    new.replace(link)
