"""Require an API key for every route except the probes."""

import math
import os
from base64 import b64decode
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.api_key_file import ApiKeysError, KeyFile, key_file_path
from service.api.error_responses import error_response
from service.api.refusal_delay import REFUSAL_DELAY
from service.api.worker_health import HEALTH
from service.api.wrong_key_limiter import WrongKeyLimiter
from service.errors import ErrorCode
from service.monitoring.prometheus_metrics import WRONG_KEYS_TOTAL
from service.request_state import RequestState
from service.route_table import PROBE_ROUTES

MAX_REFUSAL_DELAY_SECONDS = 1.0  # a refused client waits this long for its response, even if Retry-After is longer
SEND_A_KEY = "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."


class ApiKeyMiddleware:
    """ASGI middleware: without a valid key only the probes respond. It refuses all requests when there are no keys."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.wrong_key_limiter = WrongKeyLimiter()
        self.key_file = _open_key_file()
        if self.key_file:
            HEALTH.add_check("keys", self.key_file.find_problem)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in PROBE_ROUTES:
            await self.app(scope, receive, send)
            return
        state, key = RequestState.of(scope), _read_key(Headers(scope=scope))
        if self._authorize(state, key) or (
            scope["path"] == "/metrics" and os.environ.get("NERVEMASK_METRICS") == "open"
        ):
            await self.app(scope, receive, send)
            return
        response = await self._refuse_wrong_key(scope) if key else _unauthorized(SEND_A_KEY)
        await response(scope, receive, send)

    def _authorize(self, state: RequestState, key: str) -> bool:
        """Return whether the request may use the service, and note it in its state."""
        if key_file := self.key_file:
            state.api_key_name = key_file.find_name(key) if key else None
            state.has_valid_key = lambda: key_file.find_name(key) is not None
        state.is_authorized = self.key_file is None or state.api_key_name is not None
        return state.is_authorized

    async def _refuse_wrong_key(self, scope: Scope) -> Response:
        WRONG_KEYS_TOTAL.inc()
        seconds = self.wrong_key_limiter.record(RequestState.of(scope).client_address or "")
        if not seconds:
            if self.wrong_key_limiter.is_flooded:
                await REFUSAL_DELAY.wait(MAX_REFUSAL_DELAY_SECONDS)
            return _unauthorized("This key is not valid.")
        await REFUSAL_DELAY.wait(min(seconds, MAX_REFUSAL_DELAY_SECONDS))
        message = f"Too many wrong keys: try again in {seconds:.0f} seconds."
        return error_response(429, ErrorCode.WRONG_KEYS, message, **{"retry-after": str(math.ceil(seconds))})


def _unauthorized(message: str) -> Response:
    # A browser then asks its user for a name and a password, and sends the key as the password with every request.
    challenge = {"www-authenticate": 'Basic realm="Nervemask: the key is the password"'}
    return error_response(401, ErrorCode.KEY, message, **challenge)


def _open_key_file() -> KeyFile | None:
    """Return the file of API keys; None if requests need no key. If nothing is configured, the file has no keys."""
    try:
        path = key_file_path()
    except ApiKeysError:
        return KeyFile(Path(os.devnull))
    return KeyFile(path) if path else None


def _read_key(headers: Headers) -> str:
    """Return the request's API key; empty without a key."""
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(credentials, validate=True).decode().partition(":")[2]
        except ValueError:
            return credentials
    return headers.get("x-api-key", "").strip()
