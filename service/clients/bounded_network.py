"""Limits on what a server may send as one response. They also hold for what httpx does not count.

httpx waits without end while a server sends a header byte by byte, or informational (1xx) responses.
"""

import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

MAX_RESPONSE_BYTES = 4 * 2**30  # as sent, with its headers; the pictures of a long cine
MAX_RESPONSE_SECONDS = 3600.0  # from the end of the request to the end of the response


class BoundedStream(httpcore.NetworkStream):
    """A connection. A response on it that exceeds a limit raises httpcore.ReadError."""

    def __init__(self, stream: httpcore.NetworkStream):
        self.stream = stream
        self._expect_response()

    def _expect_response(self) -> None:
        self.received_bytes = 0
        self.deadline = time.monotonic() + MAX_RESPONSE_SECONDS

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        remaining_seconds = self.deadline - time.monotonic()
        if remaining_seconds <= 0:
            raise httpcore.ReadError(f"the response takes longer than {MAX_RESPONSE_SECONDS:.0f} seconds")
        data = self.stream.read(max_bytes, remaining_seconds if timeout is None else min(timeout, remaining_seconds))
        self.received_bytes += len(data)
        if self.received_bytes > MAX_RESPONSE_BYTES:
            raise httpcore.ReadError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, timeout)
        self._expect_response()

    def close(self) -> None:
        self.stream.close()

    def start_tls(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        return BoundedStream(self.stream.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """Opens connections as BoundedStream."""

    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        return BoundedStream(super().connect_tcp(*arguments, **options))


def bound_responses(transports: Iterable[httpx.BaseTransport | None]) -> None:
    """Bound the responses of these transports. httpx has no option for the network backend of httpcore."""
    for transport in transports:
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = BoundedBackend()
