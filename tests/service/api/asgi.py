"""Frame requests to the middlewares without a server, in virtual time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.admission import AdmissionMiddleware
from service.api.concurrency import ConcurrencyMiddleware
from service.api.concurrency_limiter import ConcurrencyLimiter
from service.api.error_responses import ErrorMiddleware
from service.api.upload import UploadMiddleware

PNG = {"content-type": "image/png"}
BODY: Message = {"type": "http.request", "body": b"x", "more_body": False}


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer.

    A test never waits for a timer, and the machine's speed cannot change its result. Not for tests with threads.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop):
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the test waits for ever"
        self.loop.now += max(0.0, timeout)
        return super().select(0)


def run_in_virtual_time(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Like asyncio.run, in a VirtualTimeLoop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def with_middlewares(app: ASGIApp, limiter: ConcurrencyLimiter) -> ASGIApp:
    """The app in the middlewares of a frame request."""
    return ErrorMiddleware(AdmissionMiddleware(UploadMiddleware(ConcurrencyMiddleware(app, limiter)), limiter))


async def post_frames(limiter: ConcurrencyLimiter, apps: Sequence[ASGIApp]) -> list[httpx.Response]:
    """Send one frame to each app at the same time; return the responses in the order of the apps."""

    async def post_frame(app: ASGIApp) -> httpx.Response:
        transport = httpx.ASGITransport(with_middlewares(app, limiter))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return await client.post("/mask", content=b"x", headers=PNG)

    return await asyncio.gather(*map(post_frame, apps))


async def receive_nothing() -> Message:
    """An ASGI `receive` of a client that sends nothing and stays connected."""
    return await asyncio.get_running_loop().create_future()


async def no_wait(message: Message) -> None:
    """An ASGI `send` of a client that takes every message at once."""


@dataclass
class FrameRequest:
    """One frame request without HTTP.

    messages: what the client sends. then: its `receive` after them. delay_send: called with each message of the
    response. sent: these messages.
    """

    messages: list[Message] = field(default_factory=lambda: [BODY])
    then: Receive = receive_nothing
    delay_send: Callable[[Message], Awaitable[None]] = no_wait
    path: str = "/mask"
    client: tuple[str, int] | None = None
    content_type: bytes = b"image/png"
    sent: list[Message] = field(default_factory=list)

    async def send_to(self, app: ASGIApp) -> None:
        """Run the app on this request."""
        messages = iter(self.messages)

        async def receive() -> Message:
            return next(messages, None) or await self.then()

        async def send(message: Message) -> None:
            self.sent.append(message)
            await self.delay_send(message)

        await app(self.scope(), receive, send)

    def scope(self) -> Scope:
        return {
            "type": "http",
            "method": "POST",
            "path": self.path,
            "query_string": b"",
            "headers": [(b"content-type", self.content_type)],
            "client": self.client,
        }

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


async def disconnect() -> Message:
    """An ASGI `receive` of a client that has disconnected."""
    return {"type": "http.disconnect"}


async def send_cine(send: Send, parts: int, compute: Callable[[], Awaitable[None]]) -> None:
    """Send a response of several parts; `compute` runs before each."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(parts):
        await compute()
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})
