"""uvicorn's WebSocket connection, with limits on what a client can make a worker hold and compute.

uvicorn parses frames as soon as they arrive, also before the application has accepted the stream, and sends a pong for
every ping, also when the client takes none. Here no frame is parsed while the application does not ask for a message or
the client does not take what it is sent. Compression is off (service.api.server_patches), so a frame never grows.
"""

from typing import Any

from starlette.status import WS_1008_POLICY_VIOLATION
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from service.api.idle_connection_timeout import CONNECTION_LIMITER, MeasuredTransport
from service.api.request_head_limits import malformed_request

MAX_MESSAGE_BYTES = 16 * 2**20
SLICE_BYTES = 4096  # of input between two looks at the limits
MAX_SMALL_FRAMES_PER_SECOND = 100  # of one stream: pings, pongs and fragments of a message below MIN_FRAGMENT_BYTES
MIN_FRAGMENT_BYTES = 64


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection.

    unparsed: input that has not been parsed; the transport does not read meanwhile.
    """

    transport: MeasuredTransport  # type: ignore[assignment]
    is_serving = True  # for ConnectionLimiter: it is idle only while the client does not take what it is sent
    last_request = None
    is_kept_alive = False

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.unparsed = b""
        self.small_frames = 0
        self.small_frames_since = self.loop.time()

    # the transport's calls

    def connection_made(self, transport: Any) -> None:
        """Register the connection. `transport`: a MeasuredTransport, from HttpProtocol."""
        transport.closes_late = True  # a refusal
        super().connection_made(transport)
        CONNECTION_LIMITER.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse the handshake, then frames while the application and the client are ready for them."""
        if self.handshake_initiated:
            self.unparsed += data
            self._parse_slices()
            return
        super().data_received(data)
        if self.handshake_initiated:
            self._parse_slices()
        else:  # the head was valid for HTTP, but not for the library of WebSockets, which would wait for more
            self.transport.write(malformed_request().response(self.default_headers))
            self.transport.close()

    def resume_writing(self) -> None:
        """Parse what has waited for the client to take the responses."""
        super().resume_writing()
        self._parse_slices()

    # the application's calls

    async def receive(self) -> Any:
        """Return the next event, and parse or read more."""
        message = await self.queue.get()
        self._parse_slices()
        return message

    async def send(self, message: Any) -> None:
        """Send an event. After the handshake frames are parsed."""
        await super().send(message)
        self.transport.closes_late &= message["type"] != "websocket.accept"
        if self.close_sent:  # uvicorn forgets it after a refusal with a body, and would log an error
            self.handshake_complete = True
        if message["type"] in ("websocket.accept", "websocket.close"):
            self._parse_slices()

    # frames

    def _is_ready(self) -> bool:
        """Return whether the next frames may be parsed."""
        has_room = self.close_sent or self.queue.empty()
        is_open = self.handshake_complete and not self.transport.closing and not self.transport.is_closing()
        return is_open and has_room and self.writable.is_set()

    def _parse_slices(self) -> None:
        while self.unparsed and self._is_ready():
            data, self.unparsed = self.unparsed[:SLICE_BYTES], self.unparsed[SLICE_BYTES:]
            super().data_received(data)
        must_pause = bool(self.unparsed) or not self._is_ready()
        if must_pause != self.read_paused:
            self.read_paused = must_pause
            if must_pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def handle_parser_exception(self) -> None:
        """Close the stream after an error of the client, which still sends."""
        self.transport.closes_late = True
        super().handle_parser_exception()

    def handle_ping(self) -> None:
        """Send a pong."""
        if self._may_be_small():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Note that the client answered a ping."""
        if self._may_be_small():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Add a part of a message."""
        if event.fin or len(event.data) >= MIN_FRAGMENT_BYTES or self._may_be_small():
            super().handle_cont(event)

    def _may_be_small(self) -> bool:
        """Count a small frame; close the stream when it sends too many."""
        now = self.loop.time()
        if now - self.small_frames_since >= 1:
            self.small_frames_since, self.small_frames = now, 0
        self.small_frames += 1
        if self.small_frames > MAX_SMALL_FRAMES_PER_SECOND and not self.close_sent:
            self.conn.fail(WS_1008_POLICY_VIOLATION, "too many small frames")
            self.unparsed = b""
            self.handle_parser_exception()
        return not self.close_sent
