"""The limits on the head of a request, and the errors of input that no application sees."""

from collections.abc import Iterable
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api.error_responses import CONNECTION_CLOSE, error_response
from service.errors import ErrorCode
from service.monitoring.prometheus_metrics import ERRORS_TOTAL

MAX_URL_BYTES = 8000  # RFC 9112, section 3, recommends at least as much
MAX_HEADERS_BYTES = 32 * 1024  # names and values together
MAX_HEADERS = 100


class RefusedInputError(Exception):
    """Input that breaks a limit. The client gets an error response, if it waits for no other one.

    code: None for no response.
    """

    def __init__(self, status: HTTPStatus, code: ErrorCode | None, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the bytes of the error response; empty without a code. It announces the end of the connection."""
        if not self.code:
            return b""
        ERRORS_TOTAL.labels(self.code).inc()
        response = error_response(self.status, self.code, self.message)
        lines = [b"%s: %s\r\n" % header for header in (*default_headers, *response.raw_headers, CONNECTION_CLOSE)]
        return STATUS_LINE[self.status] + b"".join(lines) + b"\r\n" + bytes(response.body)


def url_too_long() -> RefusedInputError:
    """Return the error of a URL above MAX_URL_BYTES."""
    message = f"The URL is longer than {MAX_URL_BYTES} bytes."
    return RefusedInputError(HTTPStatus.REQUEST_URI_TOO_LONG, ErrorCode.URL_TOO_LONG, message)


def headers_too_large() -> RefusedInputError:
    """Return the error of headers or trailers above MAX_HEADERS or MAX_HEADERS_BYTES."""
    message = f"The request has more than {MAX_HEADERS} headers or {MAX_HEADERS_BYTES // 1024} KiB of them."
    return RefusedInputError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, ErrorCode.HEADERS_TOO_LARGE, message)


def malformed_request() -> RefusedInputError:
    """Return the error of input that is not HTTP/1.1."""
    return RefusedInputError(HTTPStatus.BAD_REQUEST, ErrorCode.BAD_REQUEST, "The request is not valid HTTP/1.1.")


def too_many_waiting() -> RefusedInputError:
    """Return the error of a request behind too many others on its connection; it has no response of its own."""
    return RefusedInputError(HTTPStatus.TOO_MANY_REQUESTS, None, "Too many requests wait on one connection.")
