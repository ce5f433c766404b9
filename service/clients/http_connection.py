"""Open an HTTP client for a server. A server on this machine is reached directly, never through a proxy.

The client follows no redirect: it would send the API key and the frames to another server.
"""

import ipaddress
import os
from typing import Any

import httpx

from service.clients.bounded_network import bound_responses

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class ProxySettingsError(Exception):
    """The environment's proxy settings cannot be used. The message names the variables."""


def open_http_client(server: str | httpx.URL, **options: Any) -> httpx.Client:
    """Return a client with `server` as its base URL.

    options: of httpx.Client.

    Raises ProxySettingsError, and httpx.InvalidURL for a server that is no URL.
    """
    client = _open_client(httpx.URL(server), options)
    bound_responses([client._transport, *client._mounts.values()])
    return client


def _open_client(url: httpx.URL, options: dict[str, Any]) -> httpx.Client:
    if is_loopback(url.host):  # without the environment httpx would not read SSL_CERT_FILE either
        return httpx.Client(base_url=url, trust_env=False, verify=httpx.create_ssl_context(), **options)
    try:
        return httpx.Client(base_url=url, **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # httpx reads the variables in its constructor
        settings = {
            name: value for name in PROXY_VARIABLES for key in (name, name.lower()) if (value := os.environ.get(key))
        }
        if not settings:
            raise
        listed = ", ".join(f"{name}={value}" for name, value in settings.items())
        message = f"the proxy settings cannot be used ({error}). Correct or unset the variables {listed}"
        raise ProxySettingsError(message) from error


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
