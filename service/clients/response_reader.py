"""Read a server's response within limits, and check that it has the form that this service's responses have.

The server may be another program, or hostile. Every error names the address and the reason.
"""

from collections.abc import Iterator
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

MIB = 2**20
MAX_ERROR_BYTES = MIB // 16
MAX_CARD_BYTES = 4 * MIB
MAX_FRAME_BYTES = 96 * MIB  # JSON of a frame; the overlay of 4096 x 4096 pixels has at most 64 MiB in base64
MAX_FILE_BYTES = 1024 * MIB  # twice the largest upload

Form = TypeVar("Form")


class ResponseError(Exception):
    """A response that cannot be used. The message names the address and the reason."""


def describe_url(source: httpx.Response | httpx.Request) -> str:
    """Return the address of a request or response, without a user and a password."""
    return str(source.url.copy_with(userinfo=b""))


def check_content_type(response: httpx.Response, *content_types: str) -> str:
    """Return which of these Content-Types the response has. Raises ResponseError."""
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in content_types:
        reason = f"with Content-Type '{content_type}' where {' or '.join(content_types)} is expected"
        raise ResponseError(f"{describe_status(response)} {reason}: it is not this service")
    return content_type


def iter_bytes(response: httpx.Response, max_bytes: int) -> Iterator[bytes]:
    """Yield the body. Raises ResponseError if it is compressed or has more than `max_bytes`, and httpx.RequestError."""
    if response.headers.get("content-encoding", "identity") != "identity":
        # A few kilobytes could inflate to gigabytes. The clients ask for no compression.
        raise ResponseError(f"{describe_url(response)} sends a compressed response, which was not requested")
    received_bytes = 0
    for chunk in response.iter_raw():
        received_bytes += len(chunk)
        if received_bytes > max_bytes:
            raise _too_large_error(response, max_bytes)
        yield chunk


def read_bytes(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the body. Raises ResponseError and httpx.RequestError, as `iter_bytes`."""
    return b"".join(iter_bytes(response, max_bytes))


def iter_lines(response: httpx.Response, max_line_bytes: int, max_bytes: int) -> Iterator[bytes]:
    """Yield the lines of the body, without their ends, as they arrive. Raises as `iter_bytes`."""
    pieces: list[bytes] = []
    line_bytes = 0
    for chunk in iter_bytes(response, max_bytes):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*pieces, end])
            pieces, line_bytes = [], 0
        pieces.append(rest)
        line_bytes += len(rest)
        if line_bytes > max_line_bytes:
            raise _too_large_error(response, max_line_bytes)
    if last := b"".join(pieces):
        yield last


def parse_json(response: httpx.Response, data: bytes, form: TypeAdapter[Form]) -> Form:
    """Return the JSON in `data`, which is of this response, in its form. Raises ResponseError.

    pydantic's parser limits the nesting, and reads into the form: what the form does not name takes no memory.
    """
    try:
        return form.validate_json(data)
    except ValidationError as error:
        *_, detail = error.errors(include_url=False, include_input=False, include_context=False)
        place = ".".join(map(str, detail["loc"]))
        reason = f"{place}: {detail['msg']}" if place else detail["msg"]
        raise ResponseError(f"{describe_url(response)} sends unexpected JSON ({reason})") from None


def describe_status(response: httpx.Response) -> str:
    """Return the address and the status of a response, and where it redirects to."""
    redirect = ""
    if response.is_redirect and (location := response.headers.get("location")):
        redirect = f" (a redirect to {location}, which is not followed)"
    return f"{describe_url(response)} answers {response.status_code} {response.reason_phrase}{redirect}"


def read_error(response: httpx.Response, form: TypeAdapter[Form]) -> Form | None:
    """Return the JSON of an error response in its form; None if it has none. Raises httpx.RequestError."""
    try:
        return parse_json(response, read_bytes(response, MAX_ERROR_BYTES), form)
    except ResponseError:
        return None


def _too_large_error(response: httpx.Response, max_bytes: int) -> ResponseError:
    return ResponseError(f"{describe_url(response)} sends a response of more than {max_bytes} bytes")
