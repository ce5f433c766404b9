"""Run frame requests a few at a time, each within a deadline for its response."""

import asyncio
import logging
import math
from collections import deque

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_responses import frame_error_response
from service.api.fair_concurrency_limiter import LIMITER, FairConcurrencyLimiter
from service.api.slow_transfer_timeout import SlowTransferTimeout
from service.errors import ErrorCode, FrameError, too_many_error, too_slow_error
from service.request_state import RequestState
from service.route_table import is_frame_request

log = logging.getLogger("bentoml.nervemask")

MAX_QUEUE_SECONDS = 20.0  # until a request gets its first slot
MAX_RESPONSE_SECONDS = 30.0  # from then until its response, or the next part of it, has to begin


class RequestQueueMiddleware:
    """ASGI middleware: a frame request runs only while it holds a slot of the concurrency limiter.

    A request waits in the queue for a slot. It releases the slot while bytes are sent, so a slow client blocks no other
    request, and acquires a slot again for each part of a cine. A request whose client disconnects in the queue, or
    whose deadline passes there, never runs.
    """

    def __init__(self, app: ASGIApp, limiter: FairConcurrencyLimiter = LIMITER):
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_frame_request(scope):
            await LimitedRequest(self.limiter, scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)


class LimitedRequest:
    """One request, from the queue to the end of its response."""

    def __init__(self, limiter: FairConcurrencyLimiter, scope: Scope, receive: Receive, send: Send):
        self.limiter = limiter
        self.scope = scope
        self.wrapped_receive = receive
        self.wrapped_send = send
        self.state = RequestState.of(scope)
        self.slow_transfer_timeout = SlowTransferTimeout(self.state)
        self.received_in_queue: deque[Message] = deque()
        self.holds_slot = False
        self.response_started = False
        self.timed_out = False
        self.deadline = math.inf

    async def run(self, app: ASGIApp) -> None:
        """Wait for a slot, run `app` and send its response.

        Raises FrameError while no response has started: 429 when the client has too many requests or gets no slot in
        time, 400 when the client disconnects in the queue (the audit log records it; no client reads it).
        """
        await self._wait_in_queue()
        self.state.finish_step = self._finish_step
        # A task of its own: the deadline can pass while a thread computes, and a thread cannot be stopped.
        task = asyncio.ensure_future(app(self.scope, self._receive, self._send))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=min(self._seconds_left(), MAX_RESPONSE_SECONDS))
                if not task.done() and not self._seconds_left():
                    await self._time_out()
            await task
        except Exception:
            if self.slow_transfer_timeout.seconds_left:
                raise
            log.info("%s: the client took the response too slowly", self.scope["path"])
        finally:
            task.cancel()
            self.state.finish_step = None
            if self.holds_slot:
                self._release()

    async def _wait_in_queue(self) -> None:
        acquire = asyncio.create_task(self.limiter.acquire(self.state.client_id, refuse_when_full=True))
        disconnect = asyncio.create_task(self._wait_for_disconnect())
        await asyncio.wait({acquire, disconnect}, timeout=MAX_QUEUE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self.holds_slot = acquire.done() and acquire.exception() is None
        if disconnect.done():
            acquire.cancel()
            if self.holds_slot:
                self._release()
            raise FrameError(ErrorCode.BROKE_OFF, "The client disconnected.")
        disconnect.cancel()
        if not acquire.done():
            acquire.cancel()
            raise too_many_error()
        acquire.result()
        self._extend_deadline()

    async def _wait_for_disconnect(self) -> None:
        """Receive until the client disconnects; keep other messages for the app."""
        while (message := await self.wrapped_receive())["type"] != "http.disconnect":
            self.received_in_queue.append(message)

    async def _time_out(self) -> None:
        """Respond with 504 unless the response has started.

        The error is sent here and not raised: the app keeps its slot and its upload until it stops at its next frame.
        """
        must_respond = not self.response_started
        self.timed_out = True
        self.response_started = True
        self.deadline = math.inf
        self.state.abandoned = True
        if must_respond:
            response = frame_error_response(too_slow_error(MAX_RESPONSE_SECONDS))
            await response(self.scope, self.wrapped_receive, self.wrapped_send)

    async def _receive(self) -> Message:
        return self.received_in_queue.popleft() if self.received_in_queue else await self.wrapped_receive()

    async def _send(self, message: Message) -> None:
        """Send a message of the app; the request holds no slot meanwhile."""
        if self.timed_out:
            return
        self.response_started = True
        self.deadline = math.inf
        is_body = message["type"] == "http.response.body"
        if is_body and not message.get("more_body", False):
            self.state.memory.shrink_only_frame(len(message.get("body", b"")))
        if is_body and self.holds_slot:
            self._release()
        await self.slow_transfer_timeout.send(self.wrapped_send, message)
        self._extend_deadline()
        if is_body and message.get("more_body", False):
            await self._acquire()

    async def _finish_step(self) -> None:
        """Give the slot to the next request of the queue, wait for another slot and extend the deadline."""
        if self.timed_out:
            return
        self._release()
        await self._acquire()
        self._extend_deadline()

    async def _acquire(self) -> None:
        await self.limiter.acquire(self.state.client_id)
        self.holds_slot = True

    def _release(self) -> None:
        self.holds_slot = False
        self.limiter.release(self.state.client_id)

    def _extend_deadline(self) -> None:
        self.deadline = asyncio.get_running_loop().time() + MAX_RESPONSE_SECONDS

    def _seconds_left(self) -> float:
        """Return the seconds until the deadline; infinite while the client takes what is sent."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())
