"""Refuse requests for another host than this service, as Starlette's TrustedHostMiddleware does.

A page of another site can let its own name point to 127.0.0.1 (DNS rebinding). The browser then sends the page's
requests to a service that needs no key, and the page reads the masks. Only the Host header shows it.
"""

import ipaddress
import os

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.api_key_file import ApiKeysError, key_file_path
from service.api.error_responses import error_response
from service.errors import ErrorCode

VARIABLE = "NERVEMASK_ALLOWED_HOSTS"
ANY_HOST = "*"
LOOPBACK_NAMES = ("localhost", "*.localhost")


class AllowedHostsMiddleware:
    """ASGI middleware: responds with 400 to a Host header that names no allowed host. An IP address is always allowed.

    A page cannot have the origin of an IP address that is not its own, so addresses are safe, and probes use them.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.allowed_hosts = allowed_hosts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_allowed(
            Headers(scope=scope).getlist("host"), self.allowed_hosts
        ):
            await self.app(scope, receive, send)
            return
        message = f"The Host header names no host of this service: add it to {VARIABLE}."
        await error_response(400, ErrorCode.HOST, message)(scope, receive, send)


def allowed_hosts() -> list[str]:
    """Return the names in NERVEMASK_ALLOWED_HOSTS. Without it: every name if requests need a key, else loopback's.

    `*.example.org` stands for every name below example.org, and `*` for every name.
    """
    if names := os.environ.get(VARIABLE, ""):
        return [name.strip().lower() for name in names.split(",")]
    try:
        needs_key = key_file_path() is not None
    except ApiKeysError:
        needs_key = True
    return [ANY_HOST] if needs_key else list(LOOPBACK_NAMES)


def is_allowed(hosts: list[str], patterns: list[str]) -> bool:
    """Return whether a request with these Host headers (names or addresses, perhaps with a port) is allowed."""
    return ANY_HOST in patterns or (bool(hosts) and all(_is_allowed_host(host, patterns) for host in hosts))


def _is_allowed_host(host: str, patterns: list[str]) -> bool:
    name = _without_port(host).lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return any(name == pattern or (pattern[:2] == "*." and name.endswith(pattern[1:])) for pattern in patterns)
    return True


def _without_port(host: str) -> str:
    """Return the name or address of `name:port` or `[address]:port`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
