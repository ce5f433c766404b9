"""uvicorn's HTTP connection, with limits on what a client can make a worker hold and compute.

Everything here happens before authentication. These are the limits of one connection:

    its head          MAX_URL_BYTES (414), MAX_HEADERS headers of MAX_HEADERS_BYTES together (431), trailers included
    its requests      one runs; at most MAX_WAITING_REQUESTS wait (pipelining)
    its body          is read when the application asks for it, and never after the response
    its chunks        a slice at a time, in turn with other connections (service.api.event_loop_turns)
    its responses     the client must take them (service.api.idle_connection_timeout)

So a connection holds at most 256,000 bytes of input (one read of uvloop), the buffer of its body
(service.api.unread_body_limit), and 64 KiB and one part of a response.
"""

from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.error_responses import CONNECTION_CLOSE
from service.api.event_loop_turns import DISCARD_BUDGET, INPUT_TURNS, MAX_DISCARDED_BYTES
from service.api.idle_connection_timeout import CONNECTION_LIMITER, MeasuredTransport
from service.api.request_head_limits import (
    MAX_HEADERS,
    MAX_HEADERS_BYTES,
    MAX_URL_BYTES,
    RefusedInputError,
    headers_too_large,
    malformed_request,
    too_many_waiting,
    url_too_long,
)
from service.api.unread_body_limit import max_unread_bytes

MAX_WAITING_REQUESTS = 2  # of one connection, behind the running one
HEAD_SLICE_BYTES = 1024
CHUNKED_SLICE_BYTES = 16 * 1024


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection.

    unparsed: input that the parser has not seen; the transport does not read meanwhile.
    running: the request that the application answers; None before the first.
    ends_after_response: the connection closes after the response that is being sent.
    is_refused: no further input is parsed.
    is_websocket: the transport belongs to a WebSocketProtocol.
    """

    transport: MeasuredTransport  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.unparsed = b""
        self.in_head = True
        self.is_chunked = False
        self.must_ask = False  # the body waits until the application asks for it
        self.silent_bytes = 0  # input since the parser has recognized a part of the message
        self.headers_bytes = 0
        self.headers_count = 0
        self.running: RequestResponseCycle | None = None
        self.ends_after_response = False
        self.is_refused = self.is_websocket = False
        self.discarded_bytes = 0

    # for ConnectionLimiter and EventLoopTurns

    @property
    def is_serving(self) -> bool:
        """Return whether a request runs."""
        return self.running is not None and not self.running.response_complete

    @property
    def last_request(self) -> RequestResponseCycle | None:
        """Return uvicorn's object of the last request."""
        return self.cycle

    @property
    def is_kept_alive(self) -> bool:
        """Return whether no request has begun since a response. uvicorn's timeout then runs."""
        return bool(self.timeout_keep_alive_task)

    @property
    def has_input(self) -> bool:
        """Return whether there is input that may be parsed now."""
        return bool(self.unparsed) and not self.flow.read_paused and self.parser is not None

    # the transport's calls

    def connection_made(self, transport: Any) -> None:
        """Register the connection."""
        super().connection_made(MeasuredTransport(transport))  # type: ignore[arg-type]
        self.flow = InputControl(self)
        CONNECTION_LIMITER.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.unparsed = b""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps the timer, and all that it holds, after a reset

    def data_received(self, data: bytes) -> None:
        """Parse input, or let it wait for its turn."""
        if self.is_refused:
            self._discard(len(data))
            return
        self.unparsed = self.unparsed + data if self.unparsed else data
        if self.is_chunked and not self.in_head:
            self.hold_input()
        else:
            self.parse_slice()

    def hold_input(self) -> None:
        """Read no more until the unparsed input has been parsed."""
        self.transport.pause_reading()
        if self.has_input:
            INPUT_TURNS.add(self)

    def parse_slice(self) -> None:
        """Parse input up to the end of a head, of the input, or of a slice of a chunked body."""
        is_slice_parsed = False
        while self.has_input and not is_slice_parsed:
            is_slice_parsed = self.is_chunked and not self.in_head
            size = HEAD_SLICE_BYTES if self.in_head else CHUNKED_SLICE_BYTES if self.is_chunked else len(self.unparsed)
            data, self.unparsed = self.unparsed[:size], self.unparsed[size:]
            self._parse(data)
            if self.must_ask and (self.is_chunked or not self.unparsed):
                self.must_ask = False
                self.flow.pause_reading()
            elif not self.in_head and len(self.cycle.body) > max_unread_bytes(len(self.connections)):
                self.flow.pause_reading()
        if self.unparsed:
            self.hold_input()
        elif not self.flow.read_paused and not self.is_websocket:
            self.transport.resume_reading()

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self.silent_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self.silent_bytes > MAX_HEADERS_BYTES:
                raise headers_too_large()
        except httptools.HttpParserUpgrade:
            self.unparsed = b""  # a client must not send more before the response
            if self._should_upgrade():
                self._start_websocket()
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, RefusedInputError) else malformed_request())
        except RefusedInputError as refusal:
            self.refuse(refusal)

    def _start_websocket(self) -> None:
        if self.is_serving:
            self.refuse(too_many_waiting())
        else:
            self.is_websocket = True
            self.handle_websocket_upgrade()

    # the parser's calls

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self.silent_bytes = self.headers_bytes = self.headers_count = 0
        self.is_chunked = False

    def on_url(self, url: bytes) -> None:
        """Add a part of the URL. Raises RefusedInputError."""
        self.silent_bytes = 0
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise url_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header or trailer. Raises RefusedInputError."""
        self.silent_bytes = 0
        self.headers_count += 1
        self.headers_bytes += len(name) + len(value)
        if self.headers_count > MAX_HEADERS or self.headers_bytes > MAX_HEADERS_BYTES:
            raise headers_too_large()
        if name.lower() == b"transfer-encoding":
            self.is_chunked = True
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Run the request, or let it wait. Raises RefusedInputError."""
        self.silent_bytes = 0
        if len(self.pipeline) >= MAX_WAITING_REQUESTS:
            raise too_many_waiting()
        self.in_head = False
        self.must_ask = True
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Begin a chunk."""
        self.silent_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Add a part of the body. The limit on the body's size is checked once for all parts of a slice."""
        self.silent_bytes = 0
        if not self.cycle.response_complete:
            self.cycle.body += body
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request."""
        self.silent_bytes = 0
        self.in_head = True
        self.must_ask = False
        super().on_message_complete()

    # responses

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, _CloseUnreadRequests(self, cycle, app))  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        """Start the next request; or end the connection, if the client still sends the body of this one."""
        if self.ends_after_response or (self.cycle.response_complete and self.cycle.more_body):
            self.server_state.total_requests += 1
            self.end()
        else:
            super().on_response_complete()
        CONNECTION_LIMITER.record_response(self)

    def refuse(self, refusal: RefusedInputError) -> None:
        """Read no more requests. Send an error response, unless the client waits for the response to an earlier one."""
        self.is_refused = self.ends_after_response = True
        self.unparsed = b""
        self.pipeline.clear()
        if not self.is_serving:
            self._respond(refusal)
        elif self.running is self.cycle and self.cycle.more_body:  # the application waits for the body of this request
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
            else:
                self._respond(refusal)

    def _respond(self, refusal: RefusedInputError) -> None:
        self.transport.write(refusal.response(self.server_state.default_headers))
        self.end()

    def end(self) -> None:
        """Close the connection after a moment, and discard what the client still sends. Forget the requests at once."""
        self.is_refused = True
        self.unparsed = b""
        self.parser = self.scope = self.headers = self.cycle = self.running = None  # type: ignore[assignment]
        self.transport.closes_late = True
        self.transport.close()
        self.transport.resume_reading()

    def _discard(self, byte_count: int) -> None:
        self.discarded_bytes += byte_count
        if self.discarded_bytes > MAX_DISCARDED_BYTES or not DISCARD_BUDGET.spend(byte_count):
            self.transport.pause_reading()


class InputControl(FlowControl):
    """uvicorn's flow control, which parses unparsed input before it reads more."""

    def __init__(self, connection: HttpProtocol):
        super().__init__(connection.transport)  # type: ignore[arg-type]
        self.connection = connection

    def resume_reading(self) -> None:
        """Parse the unparsed input, or read more."""
        if not self.connection.unparsed:
            super().resume_reading()
        elif self.read_paused:
            self.read_paused = False
            INPUT_TURNS.add(self.connection)


class _CloseUnreadRequests:
    """ASGI middleware of one request: announces that the connection closes, if the client still sends the body."""

    def __init__(self, connection: HttpProtocol, cycle: RequestResponseCycle, app: ASGIApp):
        self.connection, self.cycle, self.app = connection, cycle, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_message(message: Message) -> None:
            closes = message["type"] == "http.response.start" and (
                self.cycle.more_body or self.connection.ends_after_response
            )
            if closes:
                headers = [header for header in message["headers"] if header[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, CONNECTION_CLOSE]}
            await send(message)
            if closes:
                self.connection.ends_after_response = self.connection.transport.closes_late = True

        await self.app(scope, receive, send_message)
