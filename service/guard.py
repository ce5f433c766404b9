"""The outermost layer that is ours: how many at once, how long, and one shape for every error."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from anyio import from_thread
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("bentoml.nervemask")

AT_ONCE = 64  # requests under way or waiting
SECONDS = 30.0  # without a byte of the upload or of the answer, until a request is given up
STEP: Message = {"type": "nervemask.step"}  # tells the layers around a route that it goes on; it is not sent further
PROBES = ("/livez", "/readyz", "/healthz", "/metrics")

FAILED = "The service failed on this request; its log says why."
MESSAGES = {
    404: ("not_found", "There is no such route: see /docs.json."),
    405: ("method_not_allowed", "This route does not take this method: see /docs.json."),
    503: ("not_ready", "The service is not ready: try again shortly."),
}


def error_response(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    """The one shape of an error."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


class Guard:
    """ASGI middleware: refuses what is too much with 429, ends what is too slow with 504, shapes every error."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        shaped = ShapedErrors(send)
        if scope["path"] in PROBES:
            await self.app(scope, receive, shaped)
        elif self.under_way >= AT_ONCE:
            await error_response(
                429, "too_many", "Too many requests at once: try again in a second.", **{"retry-after": "1"}
            )(scope, receive, send)
        else:
            await self._in_time(scope, receive, shaped)

    async def _in_time(self, scope: Scope, receive: Receive, send: "ShapedErrors") -> None:
        self.under_way += 1
        try:
            async with asyncio.timeout(SECONDS) as deadline:
                await self.app(scope, _renewing(receive, deadline), _renewing(send, deadline))
        except TimeoutError:
            if not send.started:
                message = f"No answer within {SECONDS:.0f} seconds."
                await error_response(504, "too_slow", message)(scope, receive, send.send)
        except Exception:
            # BentoML waits for the start of an answer, and would let the caller wait with it.
            if send.started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            await error_response(500, "internal", FAILED)(scope, receive, send.send)
        finally:
            self.under_way -= 1


def _renewing(channel: Callable[..., Awaitable[Any]], deadline: asyncio.Timeout) -> Callable[..., Awaitable[Any]]:
    """`receive` or `send`, each of whose messages puts the deadline off: a long upload or cine is not a slow one."""

    async def renewing(*message: Message) -> Any:
        result = await channel(*message)
        deadline.reschedule(asyncio.get_running_loop().time() + SECONDS)
        return result

    return renewing


class ShapedErrors:
    """Passes an answer on; where it is an error that is not in the one shape yet, puts it there."""

    def __init__(self, send: Send):
        self.send = send
        self.started = False
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message is STEP:
            return
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

    async def _send_error(self) -> None:
        self.started = True
        body = self.body if _is_shaped(self.body) else _shaped(self.start["status"])
        kept = [(k, v) for k, v in self.start["headers"] if k.lower() not in (b"content-length", b"content-type")]
        kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({**self.start, "headers": kept})
        await self.send({"type": "http.response.body", "body": body})


class Gradual(Response):
    """An answer that begins only when all of it is made, and may take long: each step of it puts off the deadline."""

    def __init__(self, make: Callable[[Callable[[], None]], Response]):
        """make: called in a thread, with what it has to call at each step."""
        super().__init__()
        self.make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell() -> None:
            await send(STEP)

        response = await run_in_threadpool(self.make, lambda: from_thread.run(tell))
        await response(scope, receive, send)


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
