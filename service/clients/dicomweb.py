"""A client of a DICOMweb server: find instances (QIDO-RS) and retrieve them as they are stored (WADO-RS). DICOM PS3.18.

The server's user is in DICOMWEB_USER and DICOMWEB_PASSWORD, or a bearer token is in DICOMWEB_TOKEN.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from email.message import Message
from typing import IO, Annotated, Any, Self

import httpx
from pydantic import Field, TypeAdapter

from service.clients.http_connection import open_http_client
from service.clients.response_reader import (
    MAX_FILE_BYTES,
    MIB,
    ResponseError,
    check_content_type,
    describe_status,
    describe_url,
    iter_bytes,
    parse_json,
    read_bytes,
)
from service.clients.retries import BUSY_STATUSES, MAX_BATCH_ATTEMPTS, retry_after_seconds

PAGE_SIZE = 500  # instances of one response
MAX_PAGE_BYTES = 64 * MIB
MAX_IN_MEMORY_BYTES = 16 * MIB  # a larger instance goes to the disk
MAX_PART_HEADER_BYTES = 4096
SECONDS = httpx.Timeout(120.0, connect=10.0)
UID_TAGS = {"studies": "0020000D", "series": "0020000E", "instances": "00080018"}
INSTANCE_PATH = re.compile(r"(?P<base>.*)/studies/[0-9.]+/series/[0-9.]+/instances/[0-9.]+")
QUERY_PATH = re.compile(
    r"(?P<base>.*?)(/studies(/(?P<study>[0-9.]+))?)?(/series(/(?P<series>[0-9.]+))?)?(/instances(/[0-9.]+)?)?/?"
)

Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]
Attribute = dict[str, Any]
INSTANCES: TypeAdapter[list[dict[str, Attribute]]] = TypeAdapter(list[dict[str, Attribute]])
UID: TypeAdapter[Uid] = TypeAdapter(Uid)


class DicomWebError(Exception):
    """A DICOMweb server does not answer, or answers with something else. The message names the address."""


def is_instance_url(url: str) -> bool:
    """Return whether a URL is the one of an instance; else it is a query."""
    return bool(INSTANCE_PATH.fullmatch(httpx.URL(url).path))


class DicomWebClient:
    """A client of one server. Close it, or use it as a context manager.

    base_url: such as `https://pacs/dicom-web`.
    """

    def __init__(self, base_url: httpx.URL):
        headers = {"accept-encoding": "identity"}
        if token := os.environ.get("DICOMWEB_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        auth = None
        if "DICOMWEB_USER" in os.environ:
            auth = os.environ["DICOMWEB_USER"], os.environ.get("DICOMWEB_PASSWORD", "")
        self.client = open_http_client(base_url, auth=auth, headers=headers, timeout=SECONDS)
        self.base_url = base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def search_instances(self, filters: httpx.QueryParams) -> Iterator[str]:
        """Yield the URLs of the instances that match, page by page. Raises DicomWebError.

        filters: of QIDO-RS, such as `StudyDate=20260101-20261231`. Without a modality, `Modality=US` is added.
        """
        if not {"Modality", "00080060", "ModalitiesInStudy", "00080061"} & set(filters):
            filters = filters.set("Modality", "US")
        offset, page = 0, [""]
        while page:  # a server may return fewer than it is asked for
            before = page
            query = filters.merge({"limit": PAGE_SIZE, "offset": offset})
            page = [self._instance_url(instance) for instance in self._search_page(query)]
            if page and page == before:
                raise DicomWebError(f"{self.base_url} ignores the parameter offset: it returns the same page again")
            yield from page
            offset += len(page)

    def _search_page(self, query: httpx.QueryParams) -> list[dict[str, Attribute]]:
        def read(response: httpx.Response) -> list[dict[str, Attribute]]:
            if response.status_code == 204:
                return []
            return parse_json(response, read_bytes(response, MAX_PAGE_BYTES), INSTANCES)

        return self._get("instances", read, params=query, headers={"accept": "application/dicom+json"})

    def _instance_url(self, instance: dict[str, Attribute]) -> str:
        try:
            uids = {level: UID.validate_python(instance[tag]["Value"][0]) for level, tag in UID_TAGS.items()}
        except (LookupError, TypeError, ValueError) as error:
            raise DicomWebError(f"{self.base_url} lists an instance without its UIDs") from error
        return "/".join([str(self.base_url).rstrip("/"), *(f"{level}/{uid}" for level, uid in uids.items())])

    def retrieve_instance(self, url: str) -> IO[bytes]:
        """Return the DICOM file of an instance; the caller closes it. Raises DicomWebError and OSError."""

        def read(response: httpx.Response) -> IO[bytes]:
            file = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
            try:
                content_type = check_content_type(response, "multipart/related", "application/dicom")
                for chunk in iter_bytes(response, MAX_FILE_BYTES):  # `writelines` would keep all in memory
                    file.write(chunk)
                if content_type == "multipart/related":
                    return _only_part(file, response)
                file.seek(0)
                return file
            except BaseException:
                file.close()
                raise

        # Without "transfer-syntax=*" a server decompresses the pixels.
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        return self._get(url, read, headers={"accept": accept})

    def _get(self, url: str, read: Any, **options: Any) -> Any:
        """Return `read` of the response. A busy server is asked again."""
        for attempt in range(1, MAX_BATCH_ATTEMPTS + 1):
            try:
                with self.client.stream("GET", url, **options) as response:
                    if response.status_code in (200, 204):
                        return read(response)
                    if response.status_code not in BUSY_STATUSES or attempt == MAX_BATCH_ATTEMPTS:
                        raise DicomWebError(describe_status(response))
                    pause_seconds = retry_after_seconds(response)
            except ResponseError as error:
                raise DicomWebError(str(error)) from error
            except httpx.HTTPError as error:
                if attempt == MAX_BATCH_ATTEMPTS:
                    raise DicomWebError(f"{self.base_url} does not answer ({error})") from error
                pause_seconds = float(attempt)
            time.sleep(pause_seconds)
        raise AssertionError("the last attempt returns or raises")


def split_query(url: httpx.URL) -> tuple[httpx.URL, httpx.QueryParams]:
    """Return the base URL and the filters of a query such as `https://pacs/dicom-web/instances?PatientSex=F`.

    The UIDs of a URL such as `https://pacs/dicom-web/studies/1.2/instances` are filters, too.
    """
    match = QUERY_PATH.fullmatch(url.path)
    assert match, "the pattern matches every path"
    uids = {"StudyInstanceUID": match["study"], "SeriesInstanceUID": match["series"]}
    filters = url.params.merge({name: uid for name, uid in uids.items() if uid})
    return url.copy_with(path=match["base"] or "/", query=None), filters


def _only_part(file: IO[bytes], response: httpx.Response) -> IO[bytes]:
    """Return the only part of a multipart body (RFC 2046 5.1) as a file. Raises ResponseError."""
    header = Message()
    header["content-type"] = response.headers["content-type"]
    delimiter = b"--" + str(header.get_param("boundary", "")).encode()
    file.seek(0)
    while (line := file.readline(MAX_PART_HEADER_BYTES)).rstrip() != delimiter:
        if not line or file.tell() > MAX_PART_HEADER_BYTES:
            raise ResponseError(f"{describe_url(response)} sends a multipart body without its boundary")
    while file.readline(MAX_PART_HEADER_BYTES).strip():
        if file.tell() > 2 * MAX_PART_HEADER_BYTES:
            raise ResponseError(f"{describe_url(response)} sends a part with too many headers")
    start = file.tell()
    end = _find_last(file, b"\r\n" + delimiter, start - len(b"\r\n"))
    if end < start:
        raise ResponseError(f"{describe_url(response)} sends a damaged multipart body")
    part = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
    file.seek(start)
    remaining = end - start
    while chunk := file.read(min(remaining, MIB)):
        part.write(chunk)
        remaining -= len(chunk)
    file.close()
    part.seek(0)
    return part


def _find_last(file: IO[bytes], delimiter: bytes, first: int) -> int:
    """Return where the delimiter begins that ends the only part, near the end of the file; -1 without one.

    first: where it may begin.
    """
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(first, end - MAX_PART_HEADER_BYTES))
    found = file.read().find(delimiter)
    return start + found if found >= 0 else -1
