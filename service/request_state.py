"""The state of one request that middlewares and routes share."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, NamedTuple, Self

from service.errors import ErrorCode, FrameError
from service.resources.worker_memory import RequestMemory
from service.route_table import route_label

if TYPE_CHECKING:
    from starlette.types import Scope


def client_network(address: str) -> str:
    """Return the address range of one client: an IPv4 address, or the 64-bit prefix of an IPv6 address (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


class AnswerSettings(NamedTuple):
    """What a client asks of the masks.

    min_confidence: the service abstains from answers with a lower expected Dice, 0..1.
    smooth: the masks of a cine or stream are smoothed over time.
    outlines: the masks have an inner and an outer outline.
    """

    min_confidence: float = 0.0
    smooth: bool = False
    outlines: bool = False


DEFAULT_SETTINGS = AnswerSettings()
STATE_KEY = "nervemask"  # in the ASGI scope's `state`


@dataclass
class RequestState:
    """State of one HTTP request or WebSocket.

    route: the metric label of the path.
    client_address: the client's IP address; None for a Unix socket.
    api_key_name: the name of the API key that the client sent; None without a key.
    is_authorized: the request has a valid API key, or needs none. Until this is known, it is refused without one.
    has_valid_key: returns whether the key of the request is still valid; True if it needs none.
    upload: the uploaded file, open for reading; None on routes that take no frame.
    client_wait_seconds: how long the client has kept the service waiting (see SlowTransferTimeout).
    audited: a mask of this request has its line in the audit log.
    settings: what the client asks of the masks.
    ended_decoders: number of frames of this request that ended their decoder processes.
    abandoned: the client no longer waits for the response; segmentation stops at the next frame.
    finish_step: gives the request's slot to the next request of the queue and waits for another slot; set by
        RequestQueueMiddleware, None while the request holds no slot.
    """

    route: str
    client_address: str | None
    api_key_name: str | None = None
    is_authorized: bool = False
    has_valid_key: Callable[[], bool] = lambda: True
    upload: IO[bytes] | None = None
    client_wait_seconds: float = 0.0
    audited: bool = False
    settings: AnswerSettings = DEFAULT_SETTINGS
    ended_decoders: int = 0
    abandoned: bool = False
    finish_step: Callable[[], Awaitable[None]] | None = None

    @classmethod
    def of(cls, scope: "Scope") -> Self:
        """Return the state of the request with this ASGI scope; the first call creates it."""
        states = scope.setdefault("state", {})
        if STATE_KEY not in states:
            client = scope.get("client")
            client_address = client[0] if client else None
            states[STATE_KEY] = cls(route_label(scope["path"]), client_address)
        return states[STATE_KEY]

    @property
    def client_id(self) -> str:
        """Return the key of limits per client: the API key's name, or else the address."""
        return self.api_key_name or self.client_address or ""

    @cached_property
    def memory(self) -> RequestMemory:
        """What this request holds of the worker's memory."""
        return RequestMemory(self.client_id)

    def count_ended_decoders(self, error: FrameError) -> None:
        """Count a frame that ended its decoder processes."""
        self.ended_decoders += error.code is ErrorCode.DECODER_ENDED
