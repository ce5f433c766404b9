"""Frame requests to the middlewares without a server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.client_in_flight_limit import InFlightLimitMiddleware
from service.api.error_responses import ErrorMiddleware
from service.api.fair_concurrency_limiter import FairConcurrencyLimiter
from service.api.request_queue_timeout import RequestQueueMiddleware
from service.api.upload import UploadMiddleware

PNG = {"content-type": "image/png"}
BODY: Message = {"type": "http.request", "body": b"x", "more_body": False}


def with_middlewares(app: ASGIApp, limiter: FairConcurrencyLimiter) -> ASGIApp:
    """Return the app in the middlewares of a frame request."""
    return ErrorMiddleware(InFlightLimitMiddleware(UploadMiddleware(RequestQueueMiddleware(app, limiter)), limiter))


async def post_frames(limiter: FairConcurrencyLimiter, apps: Sequence[ASGIApp]) -> list[httpx.Response]:
    """Send one frame to each app at the same time; return the responses in the order of the apps."""

    async def post_frame(app: ASGIApp) -> httpx.Response:
        transport = httpx.ASGITransport(with_middlewares(app, limiter))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return await client.post("/mask", content=b"x", headers=PNG)

    return await asyncio.gather(*map(post_frame, apps))


async def receive_nothing() -> Message:
    """Receive as from a client that sends nothing and stays connected."""
    return await asyncio.get_running_loop().create_future()


async def no_wait(message: Message) -> None:
    """Send as to a client that takes every message at once."""


@dataclass
class FrameRequest:
    """One frame request without HTTP.

    messages: the messages that the client sends.
    then: the client's `receive` after these messages.
    delay_send: called with each message of the response.
    sent: the messages of the response.
    """

    messages: list[Message] = field(default_factory=lambda: [BODY])
    then: Receive = receive_nothing
    delay_send: Callable[[Message], Awaitable[None]] = no_wait
    path: str = "/mask"
    client: tuple[str, int] | None = None
    content_type: bytes = b"image/png"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
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
            "headers": [(b"content-type", self.content_type), *self.headers],
            "client": self.client,
        }

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


async def disconnect() -> Message:
    """Receive as from a client that has disconnected."""
    return {"type": "http.disconnect"}


async def send_cine(send: Send, parts: int, compute: Callable[[], Awaitable[None]]) -> None:
    """Send a response of several parts; `compute` runs before each."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(parts):
        await compute()
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})
