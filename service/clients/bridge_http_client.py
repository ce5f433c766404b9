"""The bridge's HTTP client: it repeats a request while its server is unavailable."""

import itertools
import logging
import threading
from typing import IO, Any

import httpx
from pydantic import TypeAdapter

from service.clients.http_connection import open_http_client
from service.clients.response_forms import ERROR_RESPONSE
from service.clients.response_reader import (
    MAX_FILE_BYTES,
    MIB,
    ResponseError,
    iter_bytes,
    parse_json,
    read_bytes,
    read_error,
)
from service.clients.retries import SERVER_FAILURE_STATUSES, backoff_seconds

log = logging.getLogger("nervemask.bridge")

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 600.0  # without a byte; the service sends the response to a long cine only at its end
MAX_JSON_BYTES = 64 * MIB  # Orthanc lists all instances of a study


class StopBridgeError(Exception):
    """The bridge has to end: it received a signal, or a server is unavailable and waiting is not allowed."""


class RejectedError(Exception):
    """A server rejects a request, and would reject it again."""


class _AttemptError(Exception):
    """One attempt of a request failed.

    status: HTTP status; 0 without a response.
    server_failed: the server received the request and failed on it.
    """

    def __init__(self, reason: str, status: int, server_failed: bool):
        super().__init__(reason)
        self.status = status
        self.server_failed = server_failed


class BridgeHttpClient:
    """A client of one server that may be unavailable for a while.

    name: the server's name in log messages.
    base_url: the server's address. It may hold a user and a password.
    auth: user and password; None: as in base_url.
    stop: ends all waiting.
    once: do not wait for an unavailable server.

    Raises ProxySettingsError.
    """

    def __init__(self, name: str, base_url: httpx.URL, auth: tuple[str, str] | None, stop: threading.Event, once: bool):
        self.name = name
        self.address = str(base_url.copy_with(userinfo=b""))
        self.stop = stop
        self.once = once
        self.client = open_http_client(
            base_url,
            auth=auth,
            headers={"accept-encoding": "identity"},  # Orthanc would compress pixels, which is seven times slower
            timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            # No connection is reused: Orthanc closes idle ones, sometimes while a request is being sent.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def request(
        self,
        method: str,
        path: str,
        into: TypeAdapter[Any] | IO[bytes],
        body: IO[bytes] | dict[str, Any] | None = None,
        final_statuses: tuple[int, ...] = (),
        max_server_failures: int = 0,
    ) -> Any:
        """Send a request until it succeeds; return the JSON of the response, or None if it is written to a file.

        method, path: of the request.
        into: the form of the response's JSON, or a file to write the response to, from its start.
        body: a DICOM file, or a dict to send as JSON.
        final_statuses: statuses that another attempt would not change.
        max_server_failures: number of failures of the server after which the request is given up; 0: never.

        Raises RejectedError for a final status and after too many failures, and StopBridgeError.
        """
        server_failures = 0
        for attempt in itertools.count():
            try:
                result = self._request_once(method, path, into, body)
            except _AttemptError as error:
                server_failures += error.server_failed
                if error.status in final_statuses or (max_server_failures and server_failures == max_server_failures):
                    raise RejectedError(f"{self.name}: {error}") from None
                if self.once and not (max_server_failures and error.server_failed):
                    reason = f"{self.name} is unavailable ({self.address}: {error}), try again later"
                    raise StopBridgeError(reason) from None
                if attempt == 0:
                    log.warning("%s is unavailable (%s: %s), waiting", self.name, self.address, error)
                self.pause(backoff_seconds(attempt))
            else:
                if attempt > 0:
                    log.info("%s is available again", self.name)
                return result

    def pause(self, seconds: float) -> None:
        """Wait. Raises StopBridgeError as soon as the bridge has to end."""
        if self.stop.wait(seconds):
            raise StopBridgeError("stopped by a signal")

    def _request_once(
        self, method: str, path: str, into: TypeAdapter[Any] | IO[bytes], body: IO[bytes] | dict[str, Any] | None
    ) -> Any:
        content: dict[str, Any] = {"json": body}
        if body and not isinstance(body, dict):
            body.seek(0)
            content = {"content": body, "headers": {"content-type": "application/dicom"}}
        try:
            with self.client.stream(method, path, **content) as response:
                if response.status_code != 200:
                    status = response.status_code
                    reason = f"status {status} {_error_code(response)}".strip()
                    raise _AttemptError(reason, status, status in SERVER_FAILURE_STATUSES)
                if isinstance(into, TypeAdapter):
                    return parse_json(response, read_bytes(response, MAX_JSON_BYTES), into)
                into.seek(0)
                into.truncate()
                into.writelines(iter_bytes(response, MAX_FILE_BYTES))
                return None
        except ResponseError as error:
            raise _AttemptError(str(error), 0, server_failed=True) from error
        except httpx.HTTPError as error:
            connected = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            raise _AttemptError(f"{type(error).__name__}: {error}", 0, connected) from error


def _error_code(response: httpx.Response) -> str:
    """Return the service's error code. Its message may quote the file's header, so it is not logged."""
    error = read_error(response, ERROR_RESPONSE)
    return error.error.code if error else ""
