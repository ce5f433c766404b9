"""Where the archive's files are: list the locations of a source, and open the file at a location.

A location is a string: an absolute path, an object of a store (`s3://bucket/key`, with its key escaped as in a URL), or
the URL of a DICOMweb instance.
"""

import csv
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import httpx

from service.clients.dicomweb import MAX_IN_MEMORY_BYTES, DicomWebClient, DicomWebError, is_instance_url, split_query
from service.clients.http_connection import ProxySettingsError

if TYPE_CHECKING:
    from pyarrow import fs

LIST_SUFFIXES = (".csv", ".parquet")
PATH_COLUMN = "path"


class SourceError(Exception):
    """A source cannot be listed. The message names it and says what to do."""


def resolve_source(source: str) -> str:
    """Return a source as all nodes understand it. Raises SourceError for one that cannot be a source.

    Remote sources are not asked.
    """
    if "://" not in source:
        if not Path(source).exists():
            raise SourceError(f"{source} does not exist.")
        return str(Path(source).absolute())
    try:
        parts = urlsplit(source)
        port, _ = parts.port, httpx.URL(source)  # they raise ValueError and InvalidURL
    except (ValueError, httpx.InvalidURL) as error:
        raise SourceError(f"{source} is not a URL ({error}).") from error
    if parts.username or parts.password:
        remedy = "DICOMWEB_USER and DICOMWEB_PASSWORD" if is_web_url(source) else "AWS_ACCESS_KEY_ID and so on"
        raise SourceError(f"the URL of {parts.hostname} holds a user: set {remedy} instead.")
    if not is_web_url(source) and (parts.query or port):
        raise SourceError(f"{source} holds a port or a query: set AWS_ENDPOINT_URL and AWS_REGION instead.")
    if is_web_url(source) and {"limit", "offset"} & set(httpx.URL(source).params):
        raise SourceError(f"{source} holds limit or offset: all instances that match are read.")
    return source if is_web_url(source) else _escape_key(source)


def _escape_key(url: str) -> str:
    """Return the URL of an object with what a URL may not hold escaped. People write keys as the store shows them."""
    return quote(url, safe=":/%")


def list_source(source: str, excluded: Path | None = None) -> Iterator[str]:
    """Yield the locations of a source in an order that does not change while its files do not. Raises SourceError.

    source: a folder, a file, a CSV or Parquet list of locations, a URL of an object store, or a DICOMweb query.
    excluded: a folder whose files are not listed, such as the output folder.
    """
    if is_web_url(source):
        yield from _list_instances(source)
    elif "://" in source:
        yield from _list_objects(source)
    elif source.lower().endswith(LIST_SUFFIXES):
        yield from _read_list(Path(source))
    elif Path(source).is_dir():
        yield from _list_folder(source, excluded)
    elif Path(source).exists():
        yield source
    else:
        raise SourceError(f"{source} does not exist on one of the nodes: all nodes need it under this path.")


def _list_folder(folder: str, excluded: Path | None) -> Iterator[str]:
    """Yield the files below a folder, those in linked folders too, but hidden ones. Yield folders that cannot be read:
    to open one is then a failure with a row.
    """
    excluded_path = os.path.realpath(excluded) if excluded else None
    visited: set[str] = set()
    unreadable: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=lambda e: unreadable.append(e.filename), followlinks=True):
        visited.add(os.path.realpath(parent))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and (real := os.path.realpath(os.path.join(parent, name))) not in visited
            and real != excluded_path
        )
        yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))
    yield from unreadable


def _read_list(path: Path) -> Iterator[str]:
    """Yield the column `path` of a list. A relative path starts at the list's folder."""
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    for location in rows:
        if is_web_url(location):  # it would get the user and password of the server that a SOURCE names
            raise SourceError(f"{path} names a URL of a web server: give DICOMweb servers as a SOURCE.")
        yield _escape_key(location) if "://" in location else str(path.parent / location)


def _read_csv(path: Path) -> Iterator[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if PATH_COLUMN not in (reader.fieldnames or ()):
                raise _missing_column_error(path)
            yield from (row[PATH_COLUMN] for row in reader if row[PATH_COLUMN])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is not a CSV file in UTF-8 ({error}).") from error


def _read_parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowInvalid, parquet

    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise SourceError(f"{path} is not a Parquet file ({error}).") from error
    if PATH_COLUMN not in file.schema_arrow.names:
        raise _missing_column_error(path)
    for batch in file.iter_batches(columns=[PATH_COLUMN]):
        yield from (str(location) for location in batch.column(0).to_pylist() if location)


def _missing_column_error(path: Path) -> SourceError:
    return SourceError(f"{path} has no column {PATH_COLUMN!r}: rename the column of the files.")


def _list_objects(url: str) -> Iterator[str]:
    """Yield the objects below the URL of an object store, one folder at a time."""
    from pyarrow import fs

    scheme = url.partition("://")[0]
    try:
        file_system, path = fs.FileSystem.from_uri(url)
        if file_system.get_file_info(path).type is fs.FileType.File:
            yield url
            return
        folders = [path]
        while folders:
            folder = folders.pop()
            entries = sorted(file_system.get_file_info(fs.FileSelector(folder)), key=lambda entry: entry.path)
            for entry in reversed(entries):
                if entry.type is fs.FileType.Directory and entry.path.rstrip("/") != folder.rstrip("/"):
                    folders.append(entry.path)
            for entry in entries:
                if entry.type is fs.FileType.File and not entry.base_name.startswith("."):
                    yield f"{scheme}://{quote(entry.path)}"
                elif entry.type is fs.FileType.Directory and entry.path.rstrip("/") == folder.rstrip("/"):
                    yield f"{scheme}://{quote(folder)}//"  # keys with an empty part cannot be listed: a failure
    except (OSError, ValueError) as error:
        raise SourceError(f"{url} cannot be listed ({error}).") from error


def open_location(location: str) -> IO[bytes]:
    """Return the file at a location, open for reading. Raises OSError."""
    if is_web_url(location):
        return _retrieve_instance(location)
    if "://" in location:
        return _fetch_object(location)
    if os.path.isdir(location):
        os.listdir(location)  # raises the error of a folder that cannot be read
    elif Path(location).is_file():
        return Path(location).open("rb")
    os.stat(location)  # raises the error of a file that does not exist
    raise OSError("it is not a regular file")  # a pipe would wait without end


def _fetch_object(url: str) -> IO[bytes]:
    try:
        parts = urlsplit(url)
        path = parts.netloc + unquote(parts.path)
        file = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        with _file_system(f"{parts.scheme}://{parts.netloc}").open_input_stream(path) as stream:
            shutil.copyfileobj(stream, file)
    except ValueError as error:
        raise OSError(str(error)) from error
    file.seek(0)
    return file


@functools.lru_cache(maxsize=16)
def _file_system(bucket_url: str) -> "fs.FileSystem":
    """Return the file system of a bucket. To open one for each file would take longer than to read the file."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(bucket_url)[0]


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
        return _dicomweb_client(str(base_url)).retrieve_instance(url)
    except (DicomWebError, ProxySettingsError) as error:
        raise OSError(str(error)) from error


@functools.lru_cache(maxsize=16)
def _dicomweb_client(base_url: str) -> DicomWebClient:
    """Return a client that stays open. It is thread-safe."""
    return DicomWebClient(httpx.URL(base_url))
