"""A cine stream: a frame grabber sends frames over one WebSocket, and the service responds to each in order."""

import asyncio
import io
import json
import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.status import WS_1001_GOING_AWAY, WS_1008_POLICY_VIOLATION, WS_1013_TRY_AGAIN_LATER
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.api import response_bodies
from service.api.decoder_penalties import PENALTIES
from service.api.error_responses import INTERNAL_ERROR_MESSAGE, frame_error_response
from service.api.fair_concurrency_limiter import LIMITER
from service.api.stream_query import StreamQuery
from service.decoding.cine import open_cine
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import FrameFailure, FrameResult
from service.inference.temporal_smoothing import TemporalSmoother
from service.monitoring.monitored_segmenter import MonitoredSegmenter, record_failure
from service.request_state import RequestState
from service.resources.worker_memory import FREE_SHARES, WORKER_MEMORY, SharedLimit

MAX_STREAMS = 16  # of one worker
MAX_STREAMS_PER_CLIENT = MAX_STREAMS // 4  # so that one client cannot hold all places
MAX_QUEUED_FRAMES = 8  # of one stream, with their bytes; then the client must wait
MAX_QUEUED_DROPPED_FRAMES = 1024  # of one stream with drop=true, which keeps the bytes of the newest frame only
STREAM_BUDGET_BYTES = WORKER_MEMORY.streams  # of all streams of one worker
MAX_IDLE_SECONDS = 300.0  # without a message; then the stream is closed, and another client can use its place

log = logging.getLogger("bentoml.nervemask")


@dataclass
class OpenStreams:
    """The open streams of one worker, and the bytes that their queues may hold together."""

    clients: dict[WebSocket, str] = field(default_factory=dict)  # by socket: who has it, see RequestState.client_id
    budget: SharedLimit = field(default_factory=lambda: SharedLimit(STREAM_BUDGET_BYTES, free_shares=FREE_SHARES))

    def check_room(self, client: str) -> None:
        """Raise FrameError (429) if this client, or all clients together, can open no more streams."""
        if list(self.clients.values()).count(client) >= MAX_STREAMS_PER_CLIENT:
            message = "You have too many streams open: close one, or try again in a second."
            raise FrameError(ErrorCode.TOO_MANY, message)
        if len(self.clients) >= MAX_STREAMS:
            raise FrameError(ErrorCode.TOO_MANY, "Too many streams are open: try again in a second.")


@dataclass
class StreamMessage:
    """A message of the client.

    number: counted from 0.
    data: the file of a frame or cine; empty once the message is dropped or has its responses.
    is_text: the client sent text by mistake.
    dropped: a newer message replaced this one.
    """

    number: int
    data: bytes
    is_text: bool = False
    dropped: bool = False


class FrameQueue:
    """The messages of one stream that have no response yet.

    drop: keep the bytes of the newest message only.
    budget: bytes that the messages of all streams may hold together. client: who sends the messages.
    """

    def __init__(self, drop: bool, budget: SharedLimit, client: str):
        self.drop = drop
        self.budget = budget
        self.client = client
        max_size = MAX_QUEUED_DROPPED_FRAMES if drop else MAX_QUEUED_FRAMES
        self.queue: asyncio.Queue[StreamMessage | None] = asyncio.Queue(max_size)
        self.newest: StreamMessage | None = None

    async def fill(self, socket: WebSocket) -> None:
        """Receive messages until the stream ends; then queue None.

        It ends when the client disconnects, is idle too long, exceeds the budget, or sends a message after its API key
        was removed.
        """
        number = 0
        has_valid_key = RequestState.of(socket.scope).has_valid_key
        while (received := await self._receive(socket))["type"] == "websocket.receive":
            if not has_valid_key():
                await socket.close(WS_1008_POLICY_VIOLATION, "the API key is no longer valid")
                break
            if self.drop and self.newest:
                self.newest.dropped = True
                self.release(self.newest)
            data = received.get("bytes")
            message = StreamMessage(number, data or b"", is_text=data is None)
            if not self.budget.reserve(self.client, len(message.data)):
                await socket.close(WS_1013_TRY_AGAIN_LATER, "the streams hold too many bytes at once")
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
            await socket.close(WS_1001_GOING_AWAY, f"no message for {MAX_IDLE_SECONDS:.0f} seconds")
            return {"type": "websocket.disconnect"}

    async def next(self) -> StreamMessage | None:
        """Return the next message, which can no longer be dropped; None after the last."""
        message = await self.queue.get()
        if message is self.newest:
            self.newest = None
        return message

    def release(self, message: StreamMessage) -> None:
        """Forget a message's bytes."""
        self.budget.release(self.client, len(message.data))
        message.data = b""

    def clear(self) -> None:
        """Forget all messages."""
        while not self.queue.empty():
            if message := self.queue.get_nowait():
                self.release(message)


async def serve_stream(socket: WebSocket) -> None:
    """Serve one stream: respond to each message with JSON text like a line of /segment, to a cine once per frame."""
    streams: OpenStreams = socket.app.state.streams
    if not _has_same_origin(socket):
        await socket.close(WS_1008_POLICY_VIOLATION)
        return
    client = RequestState.of(socket.scope).client_id
    try:
        streams.check_room(client)
    except FrameError as error:
        await socket.send_denial_response(frame_error_response(error))
        return
    streams.clients[socket] = client  # before anything is awaited: another stream may begin meanwhile
    try:
        await _serve_counted_stream(socket, streams)
    finally:
        streams.clients.pop(socket, None)


async def _serve_counted_stream(socket: WebSocket, streams: OpenStreams) -> None:
    await socket.accept()
    try:
        settings = StreamQuery.parse(socket.query_params)
    except FrameError as error:
        await socket.send_text(json.dumps(response_bodies.build_error(error)))
        await socket.close(WS_1008_POLICY_VIOLATION)
        return
    RequestState.of(socket.scope).settings = settings.answers
    RequestState.of(socket.scope).memory.rendered_bytes_per_pixel = settings.rendered_bytes_per_pixel
    queue = FrameQueue(settings.drop, streams.budget, RequestState.of(socket.scope).client_id)
    receiving = asyncio.create_task(queue.fill(socket))
    try:
        await _respond_to_all(socket, queue, settings)
    except (WebSocketDisconnect, RuntimeError):  # the client disconnected; it needs no more responses
        pass
    finally:
        receiving.cancel()
        queue.clear()


async def _respond_to_all(socket: WebSocket, queue: FrameQueue, settings: StreamQuery) -> None:
    smoother = TemporalSmoother() if settings.answers.smooth else None
    while message := await queue.next():
        try:
            await _respond(message, socket, settings, smoother)
        finally:
            queue.release(message)


async def _respond(
    message: StreamMessage, socket: WebSocket, settings: StreamQuery, smoother: TemporalSmoother | None = None
) -> None:
    """Send the responses to one message, each computed in a slot of the concurrency limiter."""
    state = RequestState.of(socket.scope)
    await asyncio.sleep(PENALTIES.seconds_left(state.client_id))
    encoded_responses = _compute_responses(message, socket, settings, smoother)
    is_last = False
    try:
        while not is_last:
            async with LIMITER.slot(state.client_id):
                text, is_last = await run_in_threadpool(next, encoded_responses)
            await socket.send_text(text)
    finally:  # also when the client has disconnected: others would never get this memory
        encoded_responses.close()  # so that the threads of a cine end
        state.memory.release()
        PENALTIES.record(state)


class EncodedResponse(NamedTuple):
    """A response to a message: its JSON text, and whether it is the last one to this message."""

    text: str
    is_last: bool


def _compute_responses(
    message: StreamMessage, socket: WebSocket, settings: StreamQuery, smoother: TemporalSmoother | None
) -> Generator[EncodedResponse, None, None]:
    """Yield the responses to one message: one, or one per frame of a cine."""

    def encode(response: Mapping[str, object], is_last: bool = True) -> EncodedResponse:
        return EncodedResponse(json.dumps({"message": message.number, **response}), is_last)

    if message.dropped:
        yield encode({"dropped": True})
        return
    state = RequestState.of(socket.scope)
    try:
        segmenter: MonitoredSegmenter = socket.app.state.deployed_model.segmenter
        if message.is_text:
            raise FrameError(ErrorCode.NOT_A_FILE, "The message is text: send the file in a binary message.")
        cine = open_cine(io.BytesIO(message.data), state.memory)

        def render(outcome: FrameResult | FrameFailure) -> Mapping[str, object]:
            return response_bodies.build_outcome(outcome, segmenter.card, settings.picture)

        outcomes = chain.from_iterable(segmenter.segment_cine(cine, state, render, smoother))
        for number, outcome in enumerate(outcomes, 1):
            response = render(outcome) if isinstance(outcome, FrameFailure) else outcome
            yield encode(response, is_last=number == cine.frame_count)
    except FrameError as error:
        _restart(smoother)
        record_failure(error, state)
        yield encode(response_bodies.build_error(error))
    except Exception:
        _restart(smoother)
        log.exception("message %d of a stream failed", message.number)
        internal_error = FrameError(ErrorCode.INTERNAL, INTERNAL_ERROR_MESSAGE)
        record_failure(internal_error, state)
        yield encode(response_bodies.build_error(internal_error))


def _restart(smoother: TemporalSmoother | None) -> None:
    if smoother:
        smoother.restart()


def _has_same_origin(socket: WebSocket) -> bool:
    """Return True if the request has no Origin, or the Origin of this service.

    Browsers allow every page to open a WebSocket to every service, and send the page's Origin.
    """
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
