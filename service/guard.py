"""How many at once, and for how long.

A request that brings a frame goes through three rooms, and each is bounded:

    reading     its upload comes in; at most IN_HAND requests are in hand, and OF_ONE_CLIENT of one key or address
    waiting     for its turn, first come, first served; at most AT_ONCE wait or have it; one more is sent away at once
    its turn    as many as there are cores

Whoever reads a body or an answer slowly holds no turn meanwhile: a turn is given back before anything is sent, and a
cine takes a new one for each part of its answer. Who goes away while waiting is never computed, nor is what has waited
too long.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio import from_thread
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.accounts.metrics import UNDER_WAY, WAITING
from service.errors import FrameError
from service.machine import cores
from service.refusals import shape

log = logging.getLogger("bentoml.nervemask")

IN_HAND = 256  # requests that bring a frame, from their head to the end of their answer
OF_ONE_CLIENT = IN_HAND // 2  # so that nobody holds them all
AT_ONCE = 64  # requests that wait for their turn or have it
SECONDS = 30.0  # until an answer has to begin; and as long a client may keep us waiting, all in all
LEAST_BYTES_PER_SECOND = 64 * 1024  # what a client that keeps us waiting has to bring or take
SILENT_SECONDS = 300.0  # after which a stream on which nothing comes is closed: its place may be another's
STEP: Message = {"type": "nervemask.step"}  # a route goes on with an answer that has not begun; it is not sent further
PROBES = ("/livez", "/readyz", "/healthz")


def too_many() -> FrameError:
    return FrameError("too_many", "Too many requests at once: try again in a second.", 429)


def too_slow() -> FrameError:
    return FrameError("too_slow", f"No answer within {SECONDS:.0f} seconds.", 504)


def without_bentomls_limit() -> None:
    """Leave time to this guard, whose limits fit the upload and answer in the one shape.

    BentoML never takes its timers back: 0.7 KiB of every request would stay until the limit for the largest upload is
    over, five minutes.
    """
    TimeoutMiddleware.__call__ = lambda own, *request: own.app(*request)  # type: ignore[method-assign]


class Patience:
    """With one client, over one request: SECONDS of waiting, and more for what it brings or takes meanwhile."""

    def __init__(self) -> None:
        self.left = SECONDS

    async def wait(self, channel: Awaitable[Any], count: int = 0) -> Any:
        """What `channel` gives: a message received, or None for `count` bytes sent. Raises TimeoutError."""
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.left):
                message = await channel
        except TimeoutError:
            self.left = 0
            raise
        count += len(message.get("body", b"")) if message else 0
        waited = asyncio.get_running_loop().time() - start
        self.left = min(SECONDS, self.left - waited + count / LEAST_BYTES_PER_SECOND)
        return message


class Turns:
    """Who may compute. Of one worker; used from its event loop alone."""

    def __init__(self, at_once: int):
        self.free = asyncio.Semaphore(at_once)
        self.present = 0  # waiting, or computed
        self.in_hand: Counter[str] = Counter()  # by client

    @contextmanager
    def hand(self, client: str) -> Iterator[None]:
        """A request in hand. Raises FrameError (429) at once where there is no place for it."""
        if self.in_hand.total() >= IN_HAND or self.in_hand[client] >= OF_ONE_CLIENT or self.present >= AT_ONCE:
            raise too_many()
        self.in_hand[client] += 1
        try:
            yield
        finally:
            self.in_hand[client] -= 1
            if not self.in_hand[client]:
                del self.in_hand[client]

    async def take(self, at_most: float = math.inf) -> None:
        """Wait for a turn, to be given back. Raises FrameError (429) at once where `at_most` wait or have theirs."""
        if self.present >= at_most:
            raise too_many()
        self.present += 1
        try:
            with WAITING.track_inprogress():
                await self.free.acquire()
        except BaseException:
            self.present -= 1
            raise
        UNDER_WAY.inc()

    def give_back(self) -> None:
        self.present -= 1
        UNDER_WAY.dec()
        self.free.release()


TURNS = Turns(cores())


class Answer:
    """One request whose upload is there: its wait, its turn, its answer."""

    def __init__(self, turns: Turns, receive: Receive, send: Send, patience: Patience):
        self.turns, self.receive, self.send, self.patience = turns, receive, send, patience
        self.started = self.holding = self.given_up = False
        self._put_off()

    async def give(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """`app`'s answer. Raises FrameError: 429, 504, and 400 for nobody where the client went away."""
        await self._wait()
        # In a task of its own: a thread cannot be stopped, and its caller shall not wait with it.
        task = asyncio.ensure_future(app(scope, receive, self._sending))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=min(self._left(), SECONDS))
                if not task.done() and not self._left():
                    await self._give_up(scope)
            await task
        except Exception:
            if self.patience.left:
                raise
            log.info("%s: the client took its answer too slowly", scope["path"])
        finally:
            task.cancel()
            if self.holding:
                self._release()

    async def _wait(self) -> None:
        taking = asyncio.create_task(self.turns.take(AT_ONCE))
        leaving = asyncio.ensure_future(self.receive())  # after the upload, nothing else can come
        await asyncio.wait({taking, leaving}, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
        self.holding = taking.done() and taking.exception() is None
        if not leaving.cancel():
            taking.cancel()
            if self.holding:
                self._release()
            raise FrameError("broke_off", "The client went away.", 400)
        if not taking.done():
            taking.cancel()
            raise too_slow()
        taking.result()

    async def _give_up(self, scope: Scope) -> None:
        """The answer is late: say so. What is still computed for it stops at its next frame, and holds its turn."""
        late, self.given_up, self.late_at = not self.started, True, math.inf
        scope["state"]["given_up"] = self.started = True
        if late:
            await shape(too_slow())(scope, self.receive, self.send)

    async def _sending(self, message: Message) -> None:
        """Nobody computes while it is sent; between two parts of a cine's answer the others have their turn."""
        if self.given_up:
            return
        if message is STEP:
            self._release()
            await self._take()
            self._put_off()
            return
        self.started, self.late_at = True, math.inf
        body = message["type"] == "http.response.body"
        if body and self.holding:
            self._release()
        await self.patience.wait(self.send(message), len(message.get("body", b"")))
        self._put_off()
        if body and message.get("more_body", False):
            await self._take()

    async def _take(self) -> None:
        await self.turns.take()
        self.holding = True

    def _release(self) -> None:
        self.holding = False
        self.turns.give_back()

    def _put_off(self) -> None:
        self.late_at = asyncio.get_running_loop().time() + SECONDS

    def _left(self) -> float:
        """Seconds until it is late: infinite while it is the client's turn to take what is sent."""
        return max(0.0, self.late_at - asyncio.get_running_loop().time())


class Gradual(Response):
    """An answer that begins only when all of it is made, and may take long: each step of it puts off the deadline, and
    lets others have their turn. Where the client goes away meanwhile, no further step is made."""

    def __init__(self, make: Callable[[Callable[[], None]], Response]):
        """make: called in a thread, with what it has to call at each step."""
        super().__init__()
        self.make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell() -> None:
            await send(STEP)

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope["state"]["given_up"] = True

        leaving = asyncio.create_task(leave())
        try:
            response = await run_in_threadpool(self.make, lambda: from_thread.run(tell))
        finally:
            leaving.cancel()
        await response(scope, receive, send)
