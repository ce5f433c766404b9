"""A cine stream: a frame grabber sends frames over one WebSocket and gets an answer to each, in their order."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import iterate_in_threadpool
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import answers
from service.accounts.account import Account
from service.cine import open_cine
from service.errors import FrameError
from service.guard import SILENT_SECONDS, TURNS
from service.machine import memory
from service.refusals import FAILED
from service.upload import budget

STREAMS_AT_ONCE = 16
WAITING_FRAMES = 8  # held with their bytes; then the sender has to wait
WAITING_DROPPED = 1024  # places in the line where all but the newest frame give up their bytes
ROOM_BYTES = budget(memory()) // 4
GOING_AWAY, POLICY_VIOLATION, TRY_AGAIN_LATER = 1001, 1008, 1013  # RFC 6455 7.4.1, and IANA's registry

log = logging.getLogger("bentoml.nervemask")


@dataclass
class Arrived:
    """A message of the client, numbered from 0. data: a frame's file; None where it was dropped, or is done with."""

    message: int
    data: bytes | str | None


class Room:
    """What all streams of this worker hold together, in bytes."""

    held = 0

    def take(self, arrived: Arrived) -> bool:
        """Whether there is room for it."""
        if self.held + len(arrived.data or "") > ROOM_BYTES:
            return False
        self.held += len(arrived.data or "")
        return True

    def clear(self, arrived: Arrived) -> None:
        """Its bytes are needed no more."""
        self.held -= len(arrived.data or "")
        arrived.data = None


class Line:
    """Frames that came and are not answered yet. dropping: only the newest is kept, the others are just counted."""

    def __init__(self, dropping: bool, room: Room):
        self.dropping, self.room = dropping, room
        self.queue: asyncio.Queue[Arrived | None] = asyncio.Queue(WAITING_DROPPED if dropping else WAITING_FRAMES)
        self.newest: Arrived | None = None

    async def fill(self, socket: WebSocket) -> None:
        """Take what the client sends, until it goes away, falls silent or brings too much; None then ends the line."""
        number = 0
        while (message := await self._receive(socket))["type"] == "websocket.receive":
            if self.dropping and self.newest:
                self.room.clear(self.newest)
            data = message.get("bytes")
            arrived = Arrived(number, data if data is not None else message.get("text") or "")
            if not self.room.take(arrived):
                await socket.close(TRY_AGAIN_LATER, "too much is sent at once")
                break
            self.newest = arrived
            try:
                await self.queue.put(arrived)
            except asyncio.CancelledError:
                self.room.clear(arrived)
                raise
            number += 1
        await self.queue.put(None)

    async def _receive(self, socket: WebSocket) -> Message:
        try:
            return await asyncio.wait_for(socket.receive(), SILENT_SECONDS)
        except TimeoutError:
            await socket.close(GOING_AWAY, f"nothing came for {SILENT_SECONDS:.0f} seconds")
            return {"type": "websocket.disconnect"}

    def clear(self) -> None:
        """What is still in the line is of no use to anybody."""
        while not self.queue.empty():
            if arrived := self.queue.get_nowait():
                self.room.clear(arrived)

    async def next(self) -> Arrived | None:
        """The next frame; one that is handed out is no longer dropped."""
        arrived = await self.queue.get()
        if arrived is self.newest:
            self.newest = None
        return arrived


async def stream(socket: WebSocket) -> None:
    """One message in, one JSON text out, as a line of /segment; `?drop=true` and `?picture=` as told in the README."""
    open_streams = socket.app.state.streams
    if not _same_origin(socket):
        await socket.close(POLICY_VIOLATION)
        return
    if len(open_streams) >= STREAMS_AT_ONCE:
        await socket.close(TRY_AGAIN_LATER)
        return
    await socket.accept()
    drop, picture = socket.query_params.get("drop", "false"), socket.query_params.get("picture")
    unknown = set(socket.query_params) - {"drop", "picture"}
    if unknown or drop not in ("true", "false") or picture not in (None, *answers.PICTURES):
        known = f"the settings are drop, true or false, and picture, one of {', '.join(answers.PICTURES)}"
        await socket.send_text(json.dumps(answers.error(FrameError("settings", f"Of a stream {known}.", 400))))
        await socket.close(POLICY_VIOLATION)
        return
    open_streams.add(socket)
    line = Line(drop == "true", socket.app.state.room)
    filling = asyncio.create_task(line.fill(socket))
    try:
        while arrived := await line.next():
            told = iterate_in_threadpool(_answers(arrived, socket, picture))
            try:
                while text := await _in_turn(told):
                    await socket.send_text(text)
            finally:
                line.room.clear(arrived)
    except (WebSocketDisconnect, RuntimeError):  # the client is gone; what it still asked for is of no use
        pass
    finally:
        filling.cancel()
        line.clear()
        open_streams.discard(socket)


async def _in_turn(told: AsyncIterator[str]) -> str | None:
    """The next answer, computed when it is this stream's turn; None after the last."""
    await TURNS.take()
    try:
        return await anext(told, None)
    finally:
        TURNS.give_back()


def _answers(arrived: Arrived, socket: WebSocket, picture: str | None) -> Iterator[str]:
    """The answer to one message: one, or several where it holds a cine."""
    for told in _told(arrived, socket, picture):
        yield json.dumps({"message": arrived.message, **told})


def _told(arrived: Arrived, socket: WebSocket, picture: str | None) -> Iterator[dict[str, Any]]:
    if arrived.data is None:
        yield {"dropped": True}
        return
    account: Account = socket.app.state.champion.account
    try:
        if isinstance(arrived.data, str):
            raise FrameError("not_a_file", "A frame is sent as a binary message: the bytes of its file.", 400)
        for outcome in chain.from_iterable(account.see_all(open_cine(io.BytesIO(arrived.data)), socket.scope)):
            yield answers.outcome(outcome, account.card, picture)
    except FrameError as fault:
        account.refused(fault, socket.scope)
        yield answers.error(fault)
    except Exception:
        log.exception("a stream's message failed")
        failed = FrameError("internal", FAILED, 500)
        account.refused(failed, socket.scope)
        yield answers.error(failed)


def _same_origin(socket: WebSocket) -> bool:
    """Whether the page that opens the stream, if it is one, is ours: browsers let any page try."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
