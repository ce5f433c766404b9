"""Read the files of a folder and of a zip file in the same way."""

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISREG
from typing import IO
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile

from service.clients.file_walk import walk_files
from training.data.source_errors import IngestLog, SourceError

# A file with one of these suffixes is data: a source must not pass it over.
PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".dcm", ".dicom", ".jp2", ".jls")
VIDEO_SUFFIXES = (".mp4", ".avi")
MAX_FILE_BYTES = 512 * 2**20  # an uncompressed cine of one minute; a file is read into memory
MAX_FILES = 1_000_000
OTHER_COMPRESSIONS = {ZIP_BZIP2: "bzip2", ZIP_LZMA: "LZMA"}
SAFE_COMPRESSIONS = (ZIP_STORED, ZIP_DEFLATED)  # 4 KiB of the others can become gigabytes in one call
BROKEN_ZIP = (OSError, EOFError, BadZipFile, ValueError, NotImplementedError, zlib.error)  # zipfile raises all of them
HIDDEN = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # of file managers; names that begin with a dot are hidden too


class SourceFiles:
    """The files of a folder or a zip file.

    names: sorted paths relative to the folder, or inside the zip file, with forward slashes, without hidden files.
    """

    def __init__(self, path: Path):
        """Raises SourceError if `path` does not exist, has too many files, a folder that cannot be read, or is a bad
        zip file.
        """
        self.path = path
        self._zip: ZipFile | None = None
        if path.is_dir():
            names = [file.relative_to(path).as_posix() for file in islice(_walk(path), MAX_FILES + 1)]
        elif path.is_file():
            self._zip = _open_zip(path)
            names = [entry.filename for entry in self._zip.infolist() if not entry.is_dir()]
        else:
            raise SourceError(
                str(path),
                "is neither a folder nor a zip file",
                "Set nerve.path in params.yaml to the folder or zip file with the data.",
            )
        if len(names) > MAX_FILES:
            raise SourceError(str(path), f"has more than {MAX_FILES:,} files", "Set nerve.path to a part of them.")
        self._name_counts = Counter(names)
        self.names = sorted(name for name in self._name_counts if not _is_hidden(name))

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises SourceError if they cannot be read, or are more than MAX_FILE_BYTES."""
        with self._report_unreadable(name), self.open(name) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        _check_size(name, len(data))
        return data

    def read_head(self, name: str, length: int) -> bytes:
        """Return the first bytes of a file. Raises SourceError if they cannot be read."""
        with self._report_unreadable(name), self._open(name) as file:
            return file.read(length)

    def open(self, name: str) -> IO[bytes]:
        """Return a file, open for reading at any position. Raises SourceError as `read`."""
        with self._report_unreadable(name):
            file = self._open(name)
            if self._zip is None:
                return file
            # The size in the zip file's directory can be wrong, so it limits how many bytes are unpacked.
            with file:
                return io.BytesIO(file.read(self._zip.getinfo(name).file_size + 1))

    def _open(self, name: str) -> IO[bytes]:
        """Return a file, open for reading in its order. Raises SourceError for a file that must not be read."""
        if self._zip is None:
            status = (self.path / name).stat()
            if not S_ISREG(status.st_mode):
                raise SourceError(name, "is not a regular file", "Remove it.")
            _check_size(name, status.st_size)
            return (self.path / name).open("rb")
        entry = self._zip.getinfo(name)
        if self._name_counts[name] > 1:
            raise SourceError(name, "is in the zip file twice", "Create the zip file again, with each name once.")
        if entry.compress_type not in SAFE_COMPRESSIONS:
            method = OTHER_COMPRESSIONS.get(entry.compress_type, f"method {entry.compress_type}")
            raise SourceError(name, f"is compressed with {method}", "Create the zip file again with Deflate.")
        _check_size(name, entry.file_size)
        return self._zip.open(entry)

    @contextmanager
    def _report_unreadable(self, name: str) -> Iterator[None]:
        try:
            yield
        except BROKEN_ZIP as error:
            raise SourceError(name, f"cannot be read ({error})", f"Copy {self.path} again.") from error


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        reason = f"has {size / 2**20:,.0f} MiB; a file may have {MAX_FILE_BYTES // 2**20}"
        raise SourceError(name, reason, "Divide it into smaller files, or remove it.")


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
    except BROKEN_ZIP as error:
        raise SourceError(str(path), f"is not a complete zip file ({error})", "Download it again.") from error
    for entry in archive.infolist():
        file = f"{path}: {entry.filename}"
        name = PureWindowsPath(entry.filename)  # it knows both kinds of slashes, and drives
        if entry.flag_bits & 1:
            raise SourceError(file, "is encrypted", "Unpack it, and set nerve.path in params.yaml to the folder.")
        if not entry.filename:
            raise SourceError(
                str(path), "has a file without a name", "Create the zip file again, or download it again."
            )
        if name.anchor or ".." in name.parts:
            raise SourceError(file, "points outside the zip file", "Create the zip file again, or download it again.")
    return archive
