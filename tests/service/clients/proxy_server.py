"""A proxy in front of the real service that can answer busy, break off a response, or disappear."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class Proxy(ThreadingHTTPServer):
    """Forwards requests to the real service.

    post_times: time of each POST.
    replies: raw responses to the first POSTs, sent instead of the service's.
    disappears: stop listening at the first GET.
    """

    daemon_threads = True

    def __init__(self, server: str, port: int):
        super().__init__(("127.0.0.1", port), ForwardingHandler)
        self.server = server
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.post_times: list[float] = []
        self.replies: list[bytes] = []
        self.disappears = False


class ForwardingHandler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if self.server.disappears:
            self.server.socket.shutdown(socket.SHUT_RDWR)  # close() alone would not end the polling
            self.server.socket.close()
        self.forward(httpx.get(self.server.server + self.path))

    def do_POST(self) -> None:
        self.server.post_times.append(time.monotonic())
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.replies:
            self.wfile.write(self.server.replies.pop(0))
            return
        headers = {name: self.headers[name] for name in ("content-type", "accept")}
        self.forward(httpx.post(self.server.server + self.path, content=body, headers=headers, timeout=30))

    def forward(self, response: httpx.Response) -> None:
        self.send_response(response.status_code)
        self.send_header("content-type", response.headers["content-type"])
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def running_proxy(server: str, port: int = 0) -> Iterator[Proxy]:
    """Serve in a thread. port: 0 for any free port."""
    with Proxy(server, port) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        yield proxy
        proxy.shutdown()


def busy_reply(status: str, retry_after_seconds: int) -> bytes:
    body = b'{"error": {"code": "too_many", "message": "Too many requests at once."}}'
    lines = [
        f"HTTP/1.1 {status}",
        f"retry-after: {retry_after_seconds}",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
