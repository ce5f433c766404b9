"""A server that sends any bytes, over a real socket: for each path its reply, whole or without end."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat

Reply = bytes | Callable[[], Iterable[bytes]]
MAX_DRAIN_SECONDS = 2


class HostileServer(socketserver.ThreadingTCPServer):
    """replies: by the beginning of "METHOD PATH"; the longest that fits counts. requests: the heads of all requests."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, replies: dict[str, Reply]):
        super().__init__(("127.0.0.1", 0), ReplyHandler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.replies = replies
        self.requests: list[bytes] = []
        self.stopped = threading.Event()


class ReplyHandler(socketserver.BaseRequestHandler):
    server: HostileServer

    def handle(self) -> None:
        with suppress(OSError):  # the client closes the connection
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := self.request.recv(65536)):
                    return
                head += data
            self.server.requests.append(head)
            target = head.split(b" HTTP/")[0].decode()
            name = max((name for name in self.server.replies if target.startswith(name)), key=len)
            reply = self.server.replies[name]
            for part in [reply] if isinstance(reply, bytes) else reply():
                if self.server.stopped.is_set():
                    return
                self.request.sendall(part)
            # Without this, unread bytes of the request would reset the connection before the client reads the reply.
            self.request.shutdown(socket.SHUT_WR)
            self.request.settimeout(MAX_DRAIN_SECONDS)
            while self.request.recv(65536):
                pass


@contextmanager
def hostile_server(replies: dict[str, Reply]) -> Iterator[HostileServer]:
    """Serve in threads."""
    with HostileServer(replies) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.stopped.set()
        server.shutdown()


def http(body: bytes, content_type: str = "application/json", status: str = "200 OK", *headers: str) -> bytes:
    """Return a response of one connection."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


def endless(start: bytes, part: bytes) -> Callable[[], Iterable[bytes]]:
    """Return a reply that begins with `start` and repeats `part` without end."""

    def parts() -> Iterator[bytes]:
        yield start
        yield from repeat(part)

    return parts
