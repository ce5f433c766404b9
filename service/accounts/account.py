"""What is told of each answer, and to whom: to the audit, to Prometheus, to the spool."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.accounts import audit
from service.accounts.drift import Drift
from service.accounts.metrics import (
    CONFIDENCE,
    FRAME_PIXELS,
    FRAMES,
    MODEL_INFO,
    PRESENCE,
    REFUSED,
    REQUEST_SECONDS,
    REQUESTS,
    STEP_SECONDS,
)
from service.accounts.spool import open_spool
from service.cine import Cine
from service.errors import FrameError
from service.guard import PROBES, too_slow
from service.segmenter import Seen, Segmenter, Unseen
from service.upload import FRAME_ROUTES

log = logging.getLogger("bentoml.nervemask")

QUIET = (*PROBES, "/metrics")  # asked for every few seconds
ROUTES = (*FRAME_ROUTES, *QUIET, "/", "/model", "/docs.json", "/stream")


class Account:
    """A champion at work: looks at frames, and tells of each before it is answered. In one worker, for any thread."""

    def __init__(self, segmenter: Segmenter):
        self.segmenter, self.card = segmenter, segmenter.card
        self.drift, self.spool = Drift(self.card), open_spool()
        self.info = MODEL_INFO.labels(self.card.name, self.card.version, self.card.run_id)
        self.info.set(1)

    def close(self) -> None:
        """Another answers from now on."""
        self.info.set(0)
        self.drift.forget()

    def see(self, cine: Cine, index: int, scope: Scope) -> Seen:
        """One frame of a cine. Raises FrameError."""
        return self._told(self.segmenter.see(cine, index), scope)

    def see_all(self, cine: Cine, scope: Scope) -> Iterator[list[Seen | Unseen]]:
        """A cine's frames, as they are done. Raises FrameError (504) where nobody waits for the rest any more."""
        for outcomes in self.segmenter.see_all(cine):
            if scope["state"].get("given_up"):
                raise too_slow()
            yield [self._told_or_not(outcome, scope) for outcome in outcomes]

    def _told_or_not(self, outcome: Seen | Unseen, scope: Scope) -> Seen | Unseen:
        if isinstance(outcome, Unseen):
            self.refused(outcome.fault, scope, index=outcome.index)
            return outcome
        try:
            return self._told(outcome, scope)
        except FrameError as fault:
            return Unseen(outcome.frame.index, fault)

    def refused(self, fault: FrameError, scope: Scope, **which: int) -> None:
        """Tells of a frame of a cine or a stream that got no mask. which: its number."""
        REFUSED.labels(fault.code).inc()
        _keep({**_asker(scope), **which, "status": fault.status, "code": fault.code})

    def _told(self, seen: Seen, scope: Scope) -> Seen:
        """The frame, once the audit has its line. Raises FrameError (503) where it cannot have it."""
        try:
            audit.write({**_asker(scope), "status": 200, **audit.of_frame(seen, self.card)})
        except OSError as fault:
            log.error("the audit cannot be written, and nothing is answered: %s", fault)
            raise FrameError("no_audit", "The service cannot keep its audit, and answers no masks now.", 503) from fault
        scope["state"]["told"] = True
        found, frame = seen.found, seen.frame
        STEP_SECONDS.labels("decode").observe(seen.decode_milliseconds / 1000)
        STEP_SECONDS.labels("network").observe(found.milliseconds / 1000)
        FRAMES.labels(str(found.present).lower()).inc()
        PRESENCE.observe(found.presence)
        if found.confidence is not None:
            CONFIDENCE.observe(found.confidence)
        FRAME_PIXELS.observe(frame.height * frame.width)
        self.drift.see(seen)
        if self.spool:
            self.spool.keep(seen)
        return seen


class Counted:
    """ASGI middleware, the outermost: counts answers, and has the audit keep those that hold no mask."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        start, route, status, counted = time.perf_counter(), route_of(scope), 0, False

        def count() -> None:
            nonlocal counted
            counted = True
            self._count(scope, route, status, time.perf_counter() - start)

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("http.response.start"):
                status = message["status"]
            elif message["type"].endswith("http.response.body") and not message.get("more_body"):
                count()  # before the end leaves: whoever has the answer finds its line
            await send(message)

        try:
            await self.app(scope, receive, counting)
        finally:
            # of a stream, what refused it; its frames have lines of their own
            if not counted and (scope["type"] == "http" or status):
                count()

    def _count(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        REQUESTS.labels(route, status).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        if not (route in QUIET and status == 200) and not (status == 200 and scope["state"].get("told")):
            _keep({**_asker(scope), "status": status, "milliseconds": round(seconds * 1000, 2)})


def route_of(scope: Scope) -> str:
    """One of few: paths are whatever somebody asks for."""
    path: str = scope["path"]
    if path in ROUTES:
        return path
    return "/page" if path.startswith("/page/") else "other"


def _asker(scope: Scope) -> dict[str, Any]:
    client = scope.get("client")
    return {"who": scope["state"].get("who"), "client": client[0] if client else None, "route": route_of(scope)}


def _keep(line: dict[str, Any]) -> None:
    try:
        audit.write(line)
    except OSError as fault:
        log.error("the audit cannot be written (%s): %s", fault, line)
