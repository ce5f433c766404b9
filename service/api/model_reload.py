"""The deployed champion, and its replacement without a restart.

NERVEMASK_MODEL names the champion's folder, or a symbolic link to it. One rule holds at the start and later:

- A model folder that appears there is loaded beside the current model and must pass its self-test; only then it gets
  new requests. Requests in flight finish with the old model.
- If it fails, the current model stays. Without a current model, the previous champion is served. Without both, the
  service has no model and is not ready.
- It is tried again as soon as a file there changes, and else after pauses that grow.

`python -m service.champion` changes the link: see `promote` and `rollback`.
"""

import logging
import os
import threading
import time
from pathlib import Path

from service.api.worker_health import Problem
from service.errors import ErrorCode, FrameError, ModelFolderError
from service.inference.segmenter import Segmenter
from service.inference.self_test import run_self_test
from service.model.card import REMEDY
from service.monitoring.monitored_segmenter import MonitoredSegmenter

log = logging.getLogger("bentoml.nervemask")

CHECK_INTERVAL_SECONDS = 2.0
MAX_PAUSE_SECONDS = 60.0  # between two attempts with the same files
MAX_UNREADABLE_PAUSE_SECONDS = 8.0  # if a file could not be read: a disk may come back without a change of the files
# Of each file: name, inode, modification time, size, and change time, because a file can become readable again.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


def load_and_test(folder: Path) -> Segmenter:
    """Return the segmenter of a model folder that passes its self-test. Raises ModelFolderError."""
    segmenter = Segmenter(folder)
    run_self_test(folder, segmenter)
    return segmenter


class DeployedModel:
    """The model that responds to requests. A request reads `segmenter` once and keeps it.

    folder: the model folder, or a symbolic link to it.
    problem: why another model than that of the folder is served, or none; None if the folder's model is served.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.deployed: MonitoredSegmenter | None = None
        self.problem: Problem | None = None
        self.fingerprint: Fingerprint | None = None  # of the last attempt
        self.pause_seconds = self.next_attempt_seconds = 0.0
        self.update()

    @property
    def segmenter(self) -> MonitoredSegmenter:
        """The deployed model. Raises FrameError (503) without one."""
        if self.deployed is None:
            raise FrameError(ErrorCode.NOT_READY, "The service has no model now: /readyz says why.")
        return self.deployed

    @property
    def description(self) -> str:
        """Name and version of the deployed model; empty without one."""
        return f"{self.deployed.card.name} {self.deployed.card.version}" if self.deployed else ""

    def watch(self) -> None:
        """Check for another champion every CHECK_INTERVAL_SECONDS, in a daemon thread."""
        threading.Thread(target=self._watch, daemon=True, name="champion").start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(CHECK_INTERVAL_SECONDS):
            self.update()

    def update(self) -> None:
        """Deploy the folder's model if it is another one, or failed before and is due, and passes its self-test."""
        fingerprint = folder_fingerprint(self.folder)
        if fingerprint == self.fingerprint:
            if not self.problem or time.monotonic() < self.next_attempt_seconds:
                return
        else:
            self.pause_seconds = 0.0
        self.fingerprint = fingerprint
        try:
            self._deploy(load_and_test(self.folder.resolve()))
            self.problem = None
        except Exception as error:
            self._fail(error)

    def _deploy(self, segmenter: Segmenter) -> None:
        old, new = self.deployed, MonitoredSegmenter(segmenter)
        if old:
            old.deactivate()
        new.activate()  # after deactivate(): both may have the same version, and then the same metric
        self.deployed = new
        before = f", before it was version {old.card.version} (run {old.card.run_id})" if old else ""
        log.info("the model is %s (run %s, %s)%s", self.description, new.card.run_id, segmenter.folder, before)

    def _fail(self, error: Exception) -> None:
        """Record why the folder's model is not served. Without a current model, deploy the previous champion."""
        expected = isinstance(error, ModelFolderError)
        reason = str(error).rstrip(".") if expected else f"{type(error).__name__}: {error}"
        if not self.deployed:
            try:
                self._deploy(load_and_test(previous_link(self.folder).resolve()))
            except Exception as previous_error:
                log.debug("the previous champion is not served: %s", previous_error)
        problem: Problem = "model", f"no model is served: {self._without_paths(reason)}"
        if self.deployed:
            wrong = f"not the one in {self.folder.name}: {self._without_paths(reason)}"
            problem = "old_model", f"the served model is {self.description}, {wrong}"
        if problem != self.problem:
            served = f"{self.description} is served instead" if self.deployed else "no model is served"
            log.error("%s: %s.", served, reason, exc_info=None if expected else error)
        self.problem = problem
        unreadable = isinstance(error.__cause__, OSError)
        max_pause_seconds = MAX_UNREADABLE_PAUSE_SECONDS if unreadable else MAX_PAUSE_SECONDS
        self.pause_seconds = min(max(2 * self.pause_seconds, CHECK_INTERVAL_SECONDS), max_pause_seconds)
        self.next_attempt_seconds = time.monotonic() + self.pause_seconds

    def _without_paths(self, reason: str) -> str:
        """Return a reason for /readyz, which everybody can read."""
        for folder in (self.folder.parent, self.folder.resolve().parent):
            reason = reason.replace(f"{folder}/", "")
        return reason.removesuffix(f": {REMEDY}")


def folder_fingerprint(folder: Path) -> Fingerprint:
    """Return a value that changes when a file of the folder changes; empty if the folder cannot be read."""
    try:
        stats = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_ctime_ns) for name, stat in stats))


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
