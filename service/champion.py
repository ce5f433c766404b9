"""The champion that is served, and the next one, taken in while requests go on.

A new model folder in the place of the old one is loaded beside it, has to pass its self-test, and only then answers;
requests that are under way end with the old one. A folder that fails changes nothing, and the log says why.

Where NERVEMASK_MODEL is a symbolic link, or not there yet, it is turned by one command, and back by another:

    python -m service.champion use FOLDER     after the same checks, before any server sees it
    python -m service.champion back           to the one before
"""

import argparse
import logging
import os
import sys
import threading
from pathlib import Path

from service.accounts.account import Account
from service.card import champion_folder
from service.errors import ModelFolderError
from service.known import check_known
from service.segmenter import Segmenter

log = logging.getLogger("bentoml.nervemask")

LOOK_SECONDS = 2.0
State = tuple[tuple[str, int, int, int], ...]


def load(folder: Path) -> Segmenter:
    """The model folder, warm, and tested on its known frames. Raises ModelFolderError."""
    segmenter = Segmenter(folder)
    check_known(folder, segmenter)
    return segmenter


class Champion:
    """What is served at the moment. A request takes its account once, and keeps to it.

    Where what lies in the folder cannot be served, as a worker may find that replaces a killed one, it is the champion
    before it, if there is one. Raises ModelFolderError.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = state_of(folder) if folder.exists() else ()
        try:
            self.account = Account(load(folder.resolve()))
        except ModelFolderError as fault:
            if not before(folder).exists():
                raise
            log.critical("%s The champion before it is served.", fault)
            self.account = Account(load(before(folder).resolve()))

    def watch(self) -> None:
        """Look for a new one, from a thread that ends with the process."""
        threading.Thread(target=self._watch, daemon=True, name="champion").start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Take in what lies in the folder now, if it is another and fit."""
        try:
            state = state_of(self.folder)
        except OSError:  # it is being put in place, or away
            return
        if state == self.state:
            return
        self.state = state
        old = self.account.card
        try:
            account = Account(load(self.folder.resolve()))
        except Exception as fault:
            known = isinstance(fault, ModelFolderError)
            log.error("the champion stays version %s: %s", old.version, fault, exc_info=not known)
            return
        self.account.close()
        account.info.set(1)  # which the old one's was, where both have one version
        self.account = account
        new, place = account.card, self.folder.resolve()
        told = "the champion is version %s (run %s, %s), no longer %s (run %s)"
        log.info(told, new.version, new.run_id or "unknown", place, old.version, old.run_id or "unknown")


def state_of(folder: Path) -> State:
    """What changes when the folder's files do. Raises OSError."""
    found = ((entry.name, entry.stat()) for entry in os.scandir(folder))
    return tuple(sorted((name, now.st_ino, now.st_mtime_ns, now.st_size) for name, now in found))


def before(link: Path) -> Path:
    """Where the link to the champion before this one is kept."""
    return link.with_name(f"{link.name}.before")


def turn(link: Path, folder: Path) -> None:
    """Point `link`, made if need be, to `folder` in one step, and remember where it pointed.

    Raises ModelFolderError, OSError.
    """
    if link.exists() and not link.is_symlink():
        remedy = "name a link in NERVEMASK_MODEL, which need not be there yet"
        raise ModelFolderError(f"{link} is a folder of its own: {remedy}.")
    load(folder)
    old = link.resolve() if link.is_symlink() else None
    _point(link, folder)
    if old:
        _point(before(link), old)


def _point(link: Path, folder: Path) -> None:
    """Relatively: a container sees the same folders below another path."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(folder, link.parent.resolve()))
    new.replace(link)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.champion", description="Turn NERVEMASK_MODEL, a link.")
    commands = parser.add_subparsers(dest="do", required=True)
    commands.add_parser("use", help="serve another model folder").add_argument("folder", type=Path)
    commands.add_parser("back", help="serve the one before")
    arguments = parser.parse_args()
    link = champion_folder()
    try:
        if arguments.do == "back" and not before(link).exists():
            raise ModelFolderError(f"there is no {before(link)}: nothing to go back to.")
        folder = arguments.folder if arguments.do == "use" else before(link)
        turn(link, folder.resolve())
    except (ModelFolderError, OSError) as fault:
        sys.exit(f"nervemask: {fault}")
    print(f"{link} is {link.resolve()}")


if __name__ == "__main__":
    main()
