"""The files of a folder or of a zip, read alike."""

import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import BadZipFile, ZipFile

from training.sources.layout import SourceError

HIDDEN = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # what file managers leave behind; names with a dot too


class Files:
    """names: the files' paths inside the folder or zip, sorted; in a zip one name can stand twice."""

    def __init__(self, path: Path):
        """Raises SourceError where `path` is missing, or is a zip that is broken, encrypted or hostile."""
        self.path = path
        self._zip: ZipFile | None = None
        if path.is_dir():
            names = [file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()]
        elif path.is_file():
            self._zip = _open(path)
            names = [entry.filename for entry in self._zip.infolist() if not entry.is_dir()]
        else:
            raise SourceError(
                str(path),
                "is neither a folder nor a zip",
                "Name the folder or zip in which the data lie (nerve.path in params.yaml).",
            )
        self.names = sorted(name for name in names if not _hidden(name))

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises SourceError where they cannot be read."""
        try:
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except (OSError, EOFError, BadZipFile, zlib.error, NotImplementedError) as fault:
            raise SourceError(name, f"cannot be read ({fault})", f"Copy {self.path} anew.") from fault


def _hidden(name: str) -> bool:
    return any(part in HIDDEN or part.startswith(".") for part in PurePosixPath(name).parts)


def _open(path: Path) -> ZipFile:
    try:
        archive = ZipFile(path)
    except (OSError, BadZipFile) as fault:
        raise SourceError(str(path), f"is no whole zip ({fault})", "Download it again.") from fault
    for entry in archive.infolist():
        file = f"{path}: {entry.filename}"
        name = PureWindowsPath(entry.filename)  # it knows both kinds of slashes, and drives
        if entry.flag_bits & 1:
            raise SourceError(file, "is encrypted", "Unpack it, and name the folder (nerve.path in params.yaml).")
        if name.anchor or ".." in name.parts:
            raise SourceError(file, "leads out of the zip", "Make the zip anew, or download it again.")
    return archive
