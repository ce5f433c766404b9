"""Read the files of a folder and of a zip file in the same way."""

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import BadZipFile, ZipFile

from service.clients.file_walk import walk_files
from training.data.source_errors import IngestLog, SourceError

# A file with one of these suffixes is data: a source must not pass it over.
PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".dcm", ".dicom", ".jp2", ".jls")
VIDEO_SUFFIXES = (".mp4", ".avi")
HIDDEN = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # of file managers; names that begin with a dot are hidden too


class SourceFiles:
    """The files of a folder or a zip file.

    names: sorted paths relative to the folder, or inside the zip file, with forward slashes, without hidden files. A
        zip file can hold a name twice.
    """

    def __init__(self, path: Path):
        """Raises SourceError if `path` does not exist, has a folder that cannot be read, or is a bad zip file."""
        self.path = path
        self._zip: ZipFile | None = None
        if path.is_dir():
            names = [file.relative_to(path).as_posix() for file in _walk(path)]
        elif path.is_file():
            self._zip = _open_zip(path)
            names = [entry.filename for entry in self._zip.infolist() if not entry.is_dir()]
        else:
            raise SourceError(
                str(path),
                "is neither a folder nor a zip file",
                "Set nerve.path in params.yaml to the folder or zip file with the data.",
            )
        self.names = sorted(name for name in names if not _is_hidden(name))

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises SourceError if they cannot be read."""
        try:
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except (OSError, EOFError, BadZipFile, zlib.error, NotImplementedError) as error:
            raise SourceError(name, f"cannot be read ({error})", f"Copy {self.path} again.") from error


def _walk(folder: Path) -> Iterator[Path]:
    """Return all files below a folder, those in linked folders too.

    Raises SourceError for a folder that cannot be read.
    """

    def raise_error(error: OSError) -> None:
        remedy = "Make the folder readable, or remove it."
        raise SourceError(str(error.filename), f"cannot be read ({error.strerror})", remedy) from error

    return walk_files(folder, raise_error)


def _is_hidden(name: str) -> bool:
    return any(part in HIDDEN or part.startswith(".") for part in PurePosixPath(name).parts)


def leave_out_or_report(file: str, expected: str, log: IngestLog) -> None:
    """Handle a file whose name does not fit the data set: a picture is an error, any other file is left out.

    expected: continues "is neither": the names that fit.
    """
    reason = f"is neither {expected}"
    if PurePosixPath(file).suffix.lower() in PICTURE_SUFFIXES:
        log.report_error(SourceError(file, reason, "Rename it, or move it out of the folder."))
    else:
        log.leave_out(file, reason)


def _open_zip(path: Path) -> ZipFile:
    try:
        archive = ZipFile(path)
    except (OSError, BadZipFile) as error:
        raise SourceError(str(path), f"is not a complete zip file ({error})", "Download it again.") from error
    for entry in archive.infolist():
        file = f"{path}: {entry.filename}"
        name = PureWindowsPath(entry.filename)  # it knows both kinds of slashes, and drives
        if entry.flag_bits & 1:
            raise SourceError(file, "is encrypted", "Unpack it, and set nerve.path in params.yaml to the folder.")
        if name.anchor or ".." in name.parts:
            raise SourceError(file, "points outside the zip file", "Create the zip file again, or download it again.")
    return archive
