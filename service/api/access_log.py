"""Count every response, and write an audit line for responses without a mask."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.monitoring import audit_log
from service.monitoring.prometheus_metrics import REQUEST_DURATION_SECONDS, REQUESTS_TOTAL
from service.request import POLLED_ROUTES, RequestState


class AccessLogMiddleware:
    """The outermost ASGI middleware: counts responses, and audits those without a mask."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        state, start, status, recorded = RequestState.of(scope), time.perf_counter(), 0, False

        def record() -> None:
            nonlocal recorded
            recorded = True
            _record(state, status, time.perf_counter() - start)

        async def recording_send(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("http.response.start"):
                status = message["status"]
            elif message["type"].endswith("http.response.body") and not message.get("more_body"):
                record()  # before the last bytes are sent: a client that has the response finds its audit line
            await send(message)

        try:
            await self.app(scope, receive, recording_send)
        finally:
            # A refused WebSocket has a status; an accepted one has an audit line for each frame.
            if not recorded and (scope["type"] == "http" or status):
                record()


def _record(state: RequestState, status: int, seconds: float) -> None:
    REQUESTS_TOTAL.labels(state.route, status).inc()
    REQUEST_DURATION_SECONDS.labels(state.route).observe(seconds)
    if status == 200 and (state.route in POLLED_ROUTES or state.audited):
        return
    line = audit_log.request_fields(state) | {"status": status, "milliseconds": round(seconds * 1000, 2)}
    audit_log.write_or_log(line)
