"""A cine stream: a frame grabber sends frames over one WebSocket, and the service responds to each in order."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Self
from urllib.parse import urlsplit

from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import QueryParams
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.api import responses
from service.api.byte_budget import ByteBudget
from service.api.concurrency_limiter import LIMITER
from service.api.error_responses import INTERNAL_ERROR_MESSAGE
from service.api.upload import upload_budget_bytes
from service.decoding.cine import open_cine
from service.errors import ErrorCode, FrameError
from service.machine_resources import memory_bytes
from service.monitoring.monitored_segmenter import MonitoredSegmenter
from service.request import RequestState

MAX_STREAMS = 16  # of one worker
MAX_QUEUED_FRAMES = 8  # of one stream, with their bytes; then the client must wait
MAX_QUEUED_DROPPED_FRAMES = 1024  # of one stream with drop=true, which keeps the bytes of the newest frame only
STREAM_BUDGET_BYTES = upload_budget_bytes(memory_bytes()) // 4  # of all streams of one worker
MAX_IDLE_SECONDS = 300.0  # without a message; then the stream is closed, and another client can use its place
GOING_AWAY, POLICY_VIOLATION, TRY_AGAIN_LATER = 1001, 1008, 1013  # RFC 6455 section 7.4.1, and its IANA registry

log = logging.getLogger("bentoml.nervemask")


@dataclass
class OpenStreams:
    """The open streams of one worker, and the bytes that their queues may hold together."""

    sockets: set[WebSocket] = field(default_factory=set)
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(STREAM_BUDGET_BYTES))


@dataclass(frozen=True)
class StreamSettings:
    """The query parameters of a stream.

    drop: respond only to the newest frame of the queue, and report the others as dropped.
    picture: the kind of picture in each response; None without one.
    """

    drop: bool
    picture: str | None

    @classmethod
    def parse(cls, query: QueryParams) -> Self:
        """Raises FrameError (400) for an unknown parameter or value."""
        drop, picture = query.get("drop", "false"), query.get("picture")
        kinds = responses.PICTURE_KINDS
        if set(query) - {"drop", "picture"} or drop not in ("true", "false") or picture not in (None, *kinds):
            message = f"The parameters of a stream are drop (true or false) and picture (one of {', '.join(kinds)})."
            raise FrameError(ErrorCode.SETTINGS, message, 400)
        return cls(drop == "true", picture)


@dataclass
class StreamMessage:
    """A message of the client.

    number: counted from 0.
    data: the file of a frame or cine; text by mistake of the client; None once it is dropped or processed.
    """

    number: int
    data: bytes | str | None

    @property
    def byte_count(self) -> int:
        return len(self.data or "")


class FrameQueue:
    """The messages of one stream that have no response yet.

    drop: keep the bytes of the newest message only.
    """

    def __init__(self, drop: bool, budget: ByteBudget):
        self.drop, self.budget = drop, budget
        max_size = MAX_QUEUED_DROPPED_FRAMES if drop else MAX_QUEUED_FRAMES
        self.queue: asyncio.Queue[StreamMessage | None] = asyncio.Queue(max_size)
        self.newest: StreamMessage | None = None

    async def fill(self, socket: WebSocket) -> None:
        """Receive messages until the client disconnects, is idle too long or exceeds the budget; then queue None."""
        number = 0
        while (received := await self._receive(socket))["type"] == "websocket.receive":
            if self.drop and self.newest:
                self.release(self.newest)
            data = received.get("bytes")
            message = StreamMessage(number, data if data is not None else received.get("text") or "")
            if not self.budget.reserve(message.byte_count):
                await socket.close(TRY_AGAIN_LATER, "the streams hold too many bytes at once")
                break
            self.newest = message
            try:
                await self.queue.put(message)
            except asyncio.CancelledError:
                self.release(message)
                raise
            number += 1
        await self.queue.put(None)

    async def _receive(self, socket: WebSocket) -> Message:
        try:
            return await asyncio.wait_for(socket.receive(), MAX_IDLE_SECONDS)
        except TimeoutError:
            await socket.close(GOING_AWAY, f"no message for {MAX_IDLE_SECONDS:.0f} seconds")
            return {"type": "websocket.disconnect"}

    async def next(self) -> StreamMessage | None:
        """Return the next message, which can no longer be dropped; None after the last."""
        message = await self.queue.get()
        if message is self.newest:
            self.newest = None
        return message

    def release(self, message: StreamMessage) -> None:
        """Forget a message's bytes."""
        self.budget.release(message.byte_count)
        message.data = None

    def clear(self) -> None:
        """Forget all messages."""
        while not self.queue.empty():
            if message := self.queue.get_nowait():
                self.release(message)


async def stream(socket: WebSocket) -> None:
    """Serve one stream: respond to each message with JSON text like a line of /segment, to a cine once per frame."""
    streams: OpenStreams = socket.app.state.streams
    if not _has_same_origin(socket):
        await socket.close(POLICY_VIOLATION)
        return
    if len(streams.sockets) >= MAX_STREAMS:
        await socket.close(TRY_AGAIN_LATER)
        return
    await socket.accept()
    try:
        settings = StreamSettings.parse(socket.query_params)
    except FrameError as error:
        await socket.send_text(json.dumps(responses.build_error(error)))
        await socket.close(POLICY_VIOLATION)
        return
    streams.sockets.add(socket)
    queue = FrameQueue(settings.drop, streams.budget)
    receiving = asyncio.create_task(queue.fill(socket))
    try:
        await _respond_to_all(socket, queue, settings)
    except (WebSocketDisconnect, RuntimeError):  # the client disconnected; it needs no more responses
        pass
    finally:
        receiving.cancel()
        queue.clear()
        streams.sockets.discard(socket)


async def _respond_to_all(socket: WebSocket, queue: FrameQueue, settings: StreamSettings) -> None:
    while message := await queue.next():
        texts = iterate_in_threadpool(_response_texts(message, socket, settings))
        try:
            while text := await _next_in_slot(texts):
                await socket.send_text(text)
        finally:
            queue.release(message)


async def _next_in_slot(texts: AsyncIterator[str]) -> str | None:
    """Compute the next response in a slot of the concurrency limiter; None after the last."""
    await LIMITER.acquire()
    try:
        return await anext(texts, None)
    finally:
        LIMITER.release()


def _response_texts(message: StreamMessage, socket: WebSocket, settings: StreamSettings) -> Iterator[str]:
    """Yield the responses to one message: one, or one per frame of a cine."""
    for response in _responses(message, socket, settings):
        yield json.dumps({"message": message.number, **response})


def _responses(message: StreamMessage, socket: WebSocket, settings: StreamSettings) -> Iterator[Mapping[str, object]]:
    if message.data is None:
        yield {"dropped": True}
        return
    segmenter: MonitoredSegmenter = socket.app.state.champion.segmenter
    state = RequestState.of(socket.scope)
    try:
        if isinstance(message.data, str):
            raise FrameError(ErrorCode.NOT_A_FILE, "The message is text: send the file in a binary message.", 400)
        batches = segmenter.segment_cine(open_cine(io.BytesIO(message.data)), state)
        for outcome in chain.from_iterable(batches):
            yield responses.build_outcome(outcome, segmenter.card, settings.picture)
    except FrameError as error:
        segmenter.record_failure(error, state)
        yield responses.build_error(error)
    except Exception:
        log.exception("message %d of a stream failed", message.number)
        internal_error = FrameError(ErrorCode.INTERNAL, INTERNAL_ERROR_MESSAGE, 500)
        segmenter.record_failure(internal_error, state)
        yield responses.build_error(internal_error)


def _has_same_origin(socket: WebSocket) -> bool:
    """Return whether the client is no web page or a page of this service; browsers let any page open a WebSocket."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
