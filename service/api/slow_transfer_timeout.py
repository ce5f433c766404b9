"""Stop a request whose client sends its upload or takes its response too slowly."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Message, Receive, Send

from service.request_state import RequestState

MAX_CLIENT_WAIT_SECONDS = 30.0  # for one client, during one request
MIN_BYTES_PER_SECOND = 64 * 1024  # at this rate a client may take longer

T = TypeVar("T")


class SlowTransferTimeout:
    """Limits how long the service waits for one client, for its upload and its response together.

    Each byte that the client sends or takes earns waiting time at MIN_BYTES_PER_SECOND, up to MAX_CLIENT_WAIT_SECONDS.
    """

    def __init__(self, state: RequestState):
        self.state = state

    @property
    def seconds_left(self) -> float:
        """Return how long the service still waits for the client; 0 after a timeout."""
        return max(0.0, MAX_CLIENT_WAIT_SECONDS - self.state.client_wait_seconds)

    async def receive(self, receive: Receive) -> Message:
        """Return the client's next message. Raises TimeoutError."""
        message, seconds = await self._wait(receive())
        self._record(seconds, len(message.get("body", b"")))
        return message

    async def send(self, send: Send, message: Message) -> None:
        """Send a message to the client. Raises TimeoutError."""
        _, seconds = await self._wait(send(message))
        self._record(seconds, len(message.get("body", b"")))

    async def _wait(self, channel: Awaitable[T]) -> tuple[T, float]:
        """Return the awaited value and the seconds that it took."""
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.seconds_left):
                value = await channel
        except TimeoutError:
            self.state.client_wait_seconds = MAX_CLIENT_WAIT_SECONDS
            raise
        return value, asyncio.get_running_loop().time() - start

    def _record(self, seconds: float, byte_count: int) -> None:
        waited = self.state.client_wait_seconds + seconds - byte_count / MIN_BYTES_PER_SECOND
        self.state.client_wait_seconds = max(0.0, waited)
