"""A cine stream: a frame grabber sends frames over one WebSocket and gets an answer to each, in their order."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import iterate_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import answers
from service.accounts.account import Account
from service.cine import open_cine
from service.errors import FrameError
from service.guard import TURNS

STREAMS_AT_ONCE = 16
WAITING_FRAMES = 8  # held with their bytes; then the sender has to wait
WAITING_DROPPED = 1024  # places in the line where all but the newest frame give up their bytes
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013  # RFC 6455 7.4.1, and IANA's registry


@dataclass
class Arrived:
    """A message of the client, numbered from 0. data: a frame's file; None where it was dropped."""

    message: int
    data: bytes | str | None


class Line:
    """Frames that came and are not answered yet. dropping: only the newest is kept, the others are just counted."""

    def __init__(self, dropping: bool):
        self.dropping = dropping
        self.queue: asyncio.Queue[Arrived | None] = asyncio.Queue(WAITING_DROPPED if dropping else WAITING_FRAMES)
        self.newest: Arrived | None = None

    async def fill(self, socket: WebSocket) -> None:
        """Take what the client sends, until it goes away; None then ends the line."""
        number = 0
        while (message := await socket.receive())["type"] == "websocket.receive":
            if self.dropping and self.newest:
                self.newest.data = None
            data = message.get("bytes")
            self.newest = Arrived(number, data if data is not None else message.get("text") or "")
            await self.queue.put(self.newest)
            number += 1
        await self.queue.put(None)

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
    line = Line(drop == "true")
    filling = asyncio.create_task(line.fill(socket))
    try:
        while arrived := await line.next():
            told = iterate_in_threadpool(_answers(arrived, socket, picture))
            while text := await _in_turn(told):
                await socket.send_text(text)
    except (WebSocketDisconnect, RuntimeError):  # the client is gone; what it still asked for is of no use
        pass
    finally:
        filling.cancel()
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
        yield answers.error(fault)


def _same_origin(socket: WebSocket) -> bool:
    """Whether the page that opens the stream, if it is one, is ours: browsers let any page try."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
