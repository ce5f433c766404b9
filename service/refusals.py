"""The one shape of every error: a code for machines and a sentence for people, and nothing of the inside."""

import asyncio
import contextlib
import json
import logging
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.accounts.metrics import REFUSED
from service.errors import FrameError

log = logging.getLogger("bentoml.nervemask")

BUSY = (429, 503)
CLOSE = (b"connection", b"close")
LINGER_SECONDS = 1.0  # for the rest of a body that nobody reads
FAILED = "The service failed on this request; its log says why."
MESSAGES = {
    404: ("not_found", "There is no such route: see /docs.json."),
    405: ("method_not_allowed", "This route does not take this method: see /docs.json."),
    503: ("not_ready", "The service is not ready: try again shortly."),
}


def error_response(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    """The one shape of an error; with 429 and 503, when to try again."""
    if status in BUSY:
        headers = {"retry-after": "1", **headers}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def shape(fault: FrameError) -> JSONResponse:
    """Where this worker has no room, the connection ends: the next one may lead to another worker.

    A client that keeps asking here would be sent away as long as it asks, with the other idle beside it.
    """
    headers = {"connection": "close"} if fault.status in BUSY else {}
    return error_response(fault.status, fault.code, fault.message, **headers)


class Shaped:
    """ASGI middleware: every error in the one shape, also those of BentoML, and faults of the service."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if "\n" in scope["path"]:  # a route's pattern would match /mask with a line's end, past all that guards /mask
            await error_response(404, *MESSAGES[404])(scope, receive, send)
            return
        shaped = ShapedErrors(receive, send)
        try:
            await self.app(scope, shaped.receive, shaped)
        except Exception:
            # BentoML waits for the start of an answer, and would let the caller wait with it.
            if shaped.started:
                raise
            log.exception("%s failed", scope["path"])
            await error_response(500, "internal", FAILED)(scope, receive, send)


class ShapedErrors:
    """Passes an answer on; where it is an error that is not in the one shape yet, puts it there.

    receive: what the application has to read its request with.
    """

    def __init__(self, receive: Receive, send: Send):
        self.receiving, self.send = receive, send
        self.started = False
        self.unread = True  # there is more of the body
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            self.started = message["status"] < 400
            if not self.started:
                return  # held back until the body is known
        elif not self.started and message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_error()
            return
        await self.send(message)

    async def receive(self) -> Message:
        message = await self.receiving()
        self.unread = message.get("more_body", False)
        return message

    async def _send_error(self) -> None:
        self.started = True
        body = self.body if _is_shaped(self.body) else _shaped(self.start["status"])
        REFUSED.labels(json.loads(body)["error"]["code"]).inc()
        kept = [(k, v) for k, v in self.start["headers"] if k.lower() not in (b"content-length", b"content-type")]
        kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        closing = CLOSE in kept
        await self.send({**self.start, "headers": kept})
        await self.send({"type": "http.response.body", "body": body, "more_body": closing})
        if closing:
            await self._linger()
            await self.send({"type": "http.response.body"})

    async def _linger(self) -> None:
        """Take what still comes: a connection that is closed upon it is reset, and its client loses the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.unread:
                    await self.receive()


def _is_shaped(body: bytes) -> bool:
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict) and "code" in parsed["error"]


def _shaped(status: int) -> bytes:
    """An error of BentoML's own: its text may tell of the inside, so the status alone speaks."""
    phrase = HTTPStatus(status).phrase
    default = (phrase.lower().replace(" ", "_"), f"{phrase}.")
    if status >= 500:
        default = ("internal", FAILED)
    code, message = MESSAGES.get(status, default)
    return json.dumps({"error": {"code": code, "message": message}}).encode()
