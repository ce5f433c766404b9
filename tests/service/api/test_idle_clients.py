"""Idle connections to a running server are closed, and never block other clients."""

import contextlib
import select
import socket
import time
from http.client import HTTPConnection

import httpx
import pytest

from service.api.idle_connection_timeout import CHECK_INTERVAL_SECONDS, MAX_IDLE_SECONDS
from service.rendering.image_encoding import encode_png

pytestmark = pytest.mark.server

CONNECTIONS = 3000


@pytest.mark.serial
def test_idle_connections_are_closed_and_do_not_block_a_request(address, speckle) -> None:
    host, port = address.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS)]
    try:
        connections[0].sendall(b"GET /model HTTP/1.1\r\nHost: localhost\r\n")  # an incomplete request
        headers = {"content-type": "image/png"}
        response = httpx.post(f"{address}/mask", content=encode_png(speckle(1)), headers=headers, timeout=60)
        assert response.status_code == 200
        poll = select.poll()
        open_sockets = {connection.fileno(): connection for connection in connections}
        for descriptor in open_sockets:
            poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + MAX_IDLE_SECONDS + 3 * CHECK_INTERVAL_SECONDS + 60
        while open_sockets and time.monotonic() < deadline:
            for descriptor, _ in poll.poll(100):  # readable: the server has closed it
                poll.unregister(descriptor)
                open_sockets.pop(descriptor).close()
        assert not open_sockets
    finally:
        for connection in connections:
            connection.close()


def test_a_client_may_send_its_next_request_after_a_pause(address) -> None:
    """uvicorn closes after 5 s by default; a client that sends at that moment loses its request."""
    host, port = address.removeprefix("http://").split(":")
    with contextlib.closing(HTTPConnection(host, int(port), timeout=10)) as connection:
        for pause in (MAX_IDLE_SECONDS + 2 * CHECK_INTERVAL_SECONDS, 0):
            connection.request("GET", "/livez")
            assert connection.getresponse().read()
            time.sleep(pause)
