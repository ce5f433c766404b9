"""Where the archive's files are: list the locations of a source, and open the file at a location.

A location is a string: a path, a URL of an object store (`s3://bucket/key`), or the URL of a DICOMweb instance.
"""

import csv
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx

from service.clients.dicomweb import DicomWebClient, DicomWebError, is_instance_url, split_query
from service.clients.file_walk import walk_files
from service.clients.http_connection import ProxySettingsError

LIST_SUFFIXES = (".csv", ".parquet")
PATH_COLUMN = "path"
MAX_IN_MEMORY_BYTES = 16 * 2**20  # a larger file that is fetched goes to the disk


class SourceError(Exception):
    """A source cannot be listed. The message names it and says what to do."""


def check_source(source: str) -> None:
    """Raise SourceError for a source that does not exist or cannot be a source; remote ones are not asked."""
    if is_web_url(source) and httpx.URL(source).userinfo:
        remedy = "set DICOMWEB_USER and DICOMWEB_PASSWORD instead"
        raise SourceError(f"the URL of {httpx.URL(source).host} holds a user: {remedy}.")
    if "://" not in source and not Path(source).exists():
        raise SourceError(f"{source} does not exist.")


def list_source(source: str) -> Iterator[str]:
    """Yield the locations of a source in an order that does not change while its files do not. Raises SourceError.

    source: a folder, a file, a CSV or Parquet list of locations, a URL of an object store, or a DICOMweb query.
    """
    if is_web_url(source):
        yield from _list_instances(source)
    elif "://" in source:
        yield from _list_objects(source)
    elif source.lower().endswith(LIST_SUFFIXES):
        yield from _read_list(Path(source))
    elif Path(source).is_dir():
        yield from _list_folder(Path(source))
    else:
        yield source


def _list_folder(folder: Path) -> Iterator[str]:
    """Yield the files below a folder but hidden ones. A folder that cannot be read raises SourceError."""

    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read ({error.strerror}).") from error

    for path in walk_files(folder, fail):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield str(path)


def _read_list(path: Path) -> Iterator[str]:
    """Yield the column `path` of a list. A relative path starts at the list's folder."""
    batches = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    for location in batches:
        yield location if "://" in location else str(path.parent / location)


def _read_csv(path: Path) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if PATH_COLUMN not in (reader.fieldnames or ()):
            raise _missing_column_error(path)
        yield from (row[PATH_COLUMN] for row in reader if row[PATH_COLUMN])


def _read_parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowInvalid, parquet

    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise SourceError(f"{path} is not a Parquet file ({error}).") from error
    if PATH_COLUMN not in file.schema_arrow.names:
        raise _missing_column_error(path)
    for batch in file.iter_batches(columns=[PATH_COLUMN]):
        yield from (location for location in batch.column(0).to_pylist() if location)


def _missing_column_error(path: Path) -> SourceError:
    return SourceError(f"{path} has no column {PATH_COLUMN!r}: name the column of the files so.")


def _list_objects(url: str) -> Iterator[str]:
    """Yield the objects below the URL of an object store, one folder at a time."""
    from pyarrow import fs

    scheme = url.partition("://")[0]
    try:
        file_system, path = fs.FileSystem.from_uri(url)
        top = file_system.get_file_info(path)
        if top.type is fs.FileType.File:
            yield url
            return
        folders = [path]
        while folders:
            entries = file_system.get_file_info(fs.FileSelector(folders.pop()))
            for entry in sorted(entries, key=lambda entry: entry.path, reverse=True):
                if entry.type is fs.FileType.Directory:
                    folders.append(entry.path)
            yield from (
                f"{scheme}://{entry.path}"
                for entry in sorted(entries, key=lambda entry: entry.path)
                if entry.type is fs.FileType.File and not entry.base_name.startswith(".")
            )
    except (OSError, ValueError) as error:
        raise SourceError(f"{url} cannot be listed ({error}).") from error


def open_location(location: str) -> IO[bytes]:
    """Return the file at a location, open for reading. Raises OSError."""
    if "://" not in location:
        return Path(location).open("rb")
    if is_web_url(location):
        return _retrieve_instance(location)
    from pyarrow import fs

    try:
        file_system, path = fs.FileSystem.from_uri(location)
        file = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        with file_system.open_input_stream(path) as stream:
            shutil.copyfileobj(stream, file)
    except ValueError as error:
        raise OSError(str(error)) from error
    file.seek(0)
    return file


def is_web_url(location: str) -> bool:
    """Return whether a source or location is of a DICOMweb server."""
    return location.startswith(("http://", "https://"))


def _list_instances(url: str) -> Iterator[str]:
    base_url, filters = split_query(httpx.URL(url))
    try:
        if is_instance_url(url):
            yield url
            return
        with DicomWebClient(base_url) as client:
            yield from client.search_instances(filters)
    except (DicomWebError, ProxySettingsError) as error:
        raise SourceError(f"{error}.") from error


def _retrieve_instance(url: str) -> IO[bytes]:
    base_url, _ = split_query(httpx.URL(url))
    try:
        with DicomWebClient(base_url) as client:
            return client.retrieve_instance(url)
    except (DicomWebError, ProxySettingsError) as error:
        raise OSError(str(error)) from error
