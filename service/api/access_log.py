"""Count every response. Write an audit line for each response without a mask.

Refusals of requests without a valid API key, and responses of probes, have no line each: anybody can send them.
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.monitoring import audit_log
from service.monitoring.prometheus_metrics import REQUEST_DURATION_SECONDS, REQUESTS_TOTAL
from service.monitoring.refusal_summary import REFUSALS
from service.request_state import RequestState
from service.route_table import POLLED_ROUTES, PROBE_ROUTES


class AccessLogMiddleware:
    """The outermost ASGI middleware: counts responses, and audits those without a mask."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        recorder = ResponseRecorder(RequestState.of(scope), send)
        try:
            await self.app(scope, receive, recorder.send)
        finally:
            # A refused WebSocket has a status; an accepted one has an audit line for each frame.
            if scope["type"] == "http" or recorder.status:
                await recorder.finish()


class ResponseRecorder:
    """Records the response of one request.

    status: the HTTP status; 0 before the response starts.
    """

    def __init__(self, state: RequestState, send: Send):
        self.state = state
        self.wrapped_send = send
        self.start_seconds = time.perf_counter()
        self.status = 0
        self.recorded = False

    async def send(self, message: Message) -> None:
        """Send a message of the response; record the response before its last bytes."""
        if message["type"].endswith("http.response.start"):
            self.status = message["status"]
        elif message["type"].endswith("http.response.body") and not message.get("more_body"):
            await self.finish()  # before the last bytes are sent: a client that has the response finds its audit line
        await self.wrapped_send(message)

    async def finish(self) -> None:
        """Update the metrics and write the audit line, unless it is done already."""
        if self.recorded:
            return
        self.recorded = True
        seconds = time.perf_counter() - self.start_seconds
        REQUESTS_TOTAL.labels(self.state.route, self.status).inc()
        REQUEST_DURATION_SECONDS.labels(self.state.route).observe(seconds)
        if self.status == 200 and (self.state.route in POLLED_ROUTES or self.state.audited):
            return
        if self.state.route in PROBE_ROUTES:
            return
        if not self.state.is_authorized:
            REFUSALS.add(self.state.client_address, self.status)
            return
        fields = audit_log.request_fields(self.state)
        await audit_log.write_or_log_async(fields | {"status": self.status, "milliseconds": round(seconds * 1000, 2)})
