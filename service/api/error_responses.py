"""Give every error response the same JSON body: a code for programs and a message for people.

The body never shows internals of the service.
"""

import json
import logging
import math
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ErrorCode, FrameError
from service.monitoring.prometheus_metrics import ERRORS_TOTAL

log = logging.getLogger("bentoml.nervemask")

RETRY_STATUSES = (429, 503)
# Starlette redirects a path with a slash too many to an address that only the server knows.
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
CONNECTION_CLOSE = (b"connection", b"close")
INTERNAL_ERROR_MESSAGE = "The service failed on this request; its log says why."
ERRORS_BY_STATUS = {
    404: (ErrorCode.NOT_FOUND, "There is no such route: see /docs.json."),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "This route does not accept this method: see /docs.json."),
    503: (ErrorCode.NOT_READY, "The service is not ready: try again shortly."),
}


def error_response(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    """Return the response of an error; with 429 and 503 it has a Retry-After header."""
    if status in RETRY_STATUSES:
        headers = {"retry-after": "1", **headers}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def frame_error_response(error: FrameError) -> JSONResponse:
    """Return the response of a FrameError.

    With 429 and 503 it closes the connection: the client's next connection may reach another worker. On the same
    connection the client would always reach this worker, even when another one is idle.
    """
    headers = {}
    if error.status in RETRY_STATUSES:
        headers = {"connection": "close", "retry-after": str(math.ceil(error.retry_after_seconds))}
    return error_response(error.status, error.code, error.message, **headers)


class ErrorMiddleware:
    """ASGI middleware: responds to every exception, and rewrites BentoML's own error responses and redirects.

    A FrameError becomes its response, and any other exception a 500 response.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await ErrorResponder(scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)


class ErrorResponder:
    """One request: passes its response on, and gives an error response the service's JSON body.

    held_start: the start message of an error response, until its body is complete.
    response_started: a message of the response has been passed on.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send):
        self.scope = scope
        self.receive = receive
        self.wrapped_send = send
        self.held_start: Message | None = None
        self.body = b""
        self.response_started = False

    async def run(self, app: ASGIApp) -> None:
        """Run `app`. Respond to an exception, or raise it if the response has started."""
        if "\n" in self.scope["path"]:  # the pattern of /mask would match it, but FRAME_ROUTES would not
            await self._respond(error_response(404, *ERRORS_BY_STATUS[404]))
            return
        try:
            await app(self.scope, self.receive, self.send)
        except FrameError as error:
            if self.response_started:
                raise
            await self._respond(frame_error_response(error))
        except Exception:
            # BentoML waits for the start of a response; without one, the client would wait too.
            if self.response_started:
                raise
            log.exception("%s failed", self.scope["path"])
            await self._respond(error_response(500, ErrorCode.INTERNAL, INTERNAL_ERROR_MESSAGE))

    async def send(self, message: Message) -> None:
        """Send a message of the response; hold an error response until its body is complete."""
        if message["type"] == "http.response.start" and message["status"] in REDIRECT_STATUSES:
            message = _not_found_start(message)
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.held_start = message
            self.body = b""
        elif self.held_start and message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_error(self.held_start)
        else:
            self.response_started = True
            await self.wrapped_send(message)

    async def _respond(self, response: Response) -> None:
        await response(self.scope, self.receive, self.send)

    async def _send_error(self, start: Message) -> None:
        """Send and count an error response. start: its start message."""
        self.held_start = None
        self.response_started = True
        body = self.body if _has_error_format(self.body) else _default_error(start["status"])
        ERRORS_TOTAL.labels(json.loads(body)["error"]["code"]).inc()
        replaced = (b"content-length", b"content-type")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in replaced]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.wrapped_send({**start, "headers": headers})
        await self.wrapped_send({"type": "http.response.body", "body": body})


def _not_found_start(start: Message) -> Message:
    """Return the start message of a 404 response in place of a redirect."""
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"location"]
    return {**start, "status": 404, "headers": headers}


def _has_error_format(body: bytes) -> bool:
    """Return whether the body is the service's JSON of an error."""
    try:
        content: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(content, dict) and isinstance(content.get("error"), dict) and "code" in content["error"]


def _default_error(status: int) -> bytes:
    """Return the body for one of BentoML's own errors; its text depends on the status alone."""
    default = (ErrorCode.INTERNAL, INTERNAL_ERROR_MESSAGE)
    if status < 500:
        default = (ErrorCode.BAD_REQUEST, f"{HTTPStatus(status).phrase}.")
    code, message = ERRORS_BY_STATUS.get(status, default)
    return json.dumps({"error": {"code": code, "message": message}}).encode()
