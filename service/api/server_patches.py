"""All changes to foreign libraries at run time.

Each function makes one change. Its docstring gives the reason, the version for which it was made, and what would make
it unnecessary. tests/service/api/test_server_patches.py fails when a change is no longer needed.
"""

import atexit
import functools
import os
import shutil
import socket
import tempfile
from typing import Any

import uvicorn
import uvloop
from bentoml._internal.server.http.traffic import TimeoutMiddleware

from service.api.http_protocol import HttpProtocol
from service.api.idle_connection_timeout import CONNECTION_LIMITER, ConnectionLimiter
from service.api.shared_socket_server import serve_shared_socket
from service.api.websocket_protocol import MAX_MESSAGE_BYTES, WebSocketProtocol
from service.resources.process_limits import raise_open_file_limit

WORKER_CHECK_SECONDS = 0.5
TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # authenticated encryption and forward secrecy; TLS 1.3 has no others


def patch_supervisor() -> None:
    """Change BentoML and circus in the supervisor, before it starts the workers."""
    replace_killed_workers_in_containers()
    check_workers_often()
    hide_supervisor_controls()


def patch_worker() -> None:
    """Change BentoML, uvicorn and uvloop in a worker, before it serves."""
    disable_bentoml_timeout()
    raise_open_file_limit()
    accept_one_by_one(CONNECTION_LIMITER)


def disable_bentoml_timeout() -> None:
    """Remove BentoML's timeout of a request; UploadMiddleware and RequestQueueMiddleware have timeouts of their own.

    Reason: the timeout includes the upload and the whole of a cine's response, it cannot be switched off, and its timer
    stays in the event loop after the response, with 0.7 KiB of memory per request.
    Made for: BentoML 1.4.39.
    Unnecessary when: BentoML's setting traffic.timeout accepts None.
    """
    TimeoutMiddleware.__call__ = lambda self, *request: self.app(*request)  # type: ignore[method-assign]


def configure_uvicorn() -> None:
    """Set the options of uvicorn that BentoML does not pass on. BentoML imports the service before it makes a Config.

    http, ws: uvicorn has no limits on heads, pipelined requests, chunks and pings, and no timeout for a connection that
    has sent no complete request.
    ws_per_message_deflate: a small message would become a thousand times larger before the service sees it.
    forwarded_allow_ips: uvicorn's default lets every process on this machine choose its client address.
    ssl_ciphers: BentoML's default (TLSv1) allows only ciphers of TLS 1.2 without authenticated encryption.

    Made for: uvicorn 0.54.0, BentoML 1.4.39.
    Unnecessary when: BentoML has settings for these options.
    """
    initialize = uvicorn.Config.__init__

    @functools.wraps(initialize)
    def initialize_with_options(self: uvicorn.Config, app: Any, **options: Any) -> None:
        initialize(self, app, **{**options, **uvicorn_options()})

    uvicorn.Config.__init__ = initialize_with_options  # type: ignore[method-assign,assignment]


def uvicorn_options() -> dict[str, Any]:
    """Return the options of uvicorn.Config that hold for every server of this process."""
    return {
        "http": HttpProtocol,
        "ws": WebSocketProtocol,
        "ws_max_size": MAX_MESSAGE_BYTES,
        "ws_per_message_deflate": False,
        "forwarded_allow_ips": os.environ.get("FORWARDED_ALLOW_IPS", ""),
        "ssl_ciphers": TLS_1_2_CIPHERS,
    }


def accept_one_by_one(limiter: ConnectionLimiter) -> None:
    """Accept connections of a socket that workers share one at a time.

    Reason: uvloop accepts a waiting connection in every iteration of its event loop, even if the worker holds many
    connections already. One of two workers then gets most of the connections, at times 99 of 100.
    Made for: uvloop 0.23.0, uvicorn 0.54.0.
    Unnecessary when: BentoML gives each worker a socket of its own (SO_REUSEPORT), or a proxy spreads connections.
    """
    create_server = uvloop.Loop.create_server

    async def create(loop: Any, factory: Any, *address: Any, sock: socket.socket | None = None, **options: Any) -> Any:
        if sock is None:  # a single process, without a supervisor
            return await create_server(loop, factory, *address, **options)
        return serve_shared_socket(loop, factory, sock, options.get("ssl"), limiter)

    uvloop.Loop.create_server = create  # type: ignore[assignment,method-assign]


def replace_killed_workers_in_containers() -> None:
    """Let BentoML replace a killed worker also in a container.

    Reason: with BENTOML_CONTAINERIZED, which BentoML's images set, the supervisor ends with its first killed worker.
    Made for: BentoML 1.4.39.
    Unnecessary when: BentoML has a setting for it, or its images no longer set the variable.
    """
    os.environ.pop("BENTOML_CONTAINERIZED", None)


def check_workers_often() -> None:
    """Let the supervisor look for killed workers every WORKER_CHECK_SECONDS, but not while it starts workers.

    Reason: BentoML sets an interval of 10 seconds and has no setting for it. While workers start, circus refuses such a
    check and logs the refusal as an error.
    Made for: BentoML 1.4.39 with kantoku 0.18.3 (its copy of circus).
    Unnecessary when: BentoML has a setting for the interval, and circus skips the check by itself.
    """
    from bentoml._internal.utils import circus  # it would slow the start of a worker, which does not need it

    class Arbiter(circus.Arbiter):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "check_delay": WORKER_CHECK_SECONDS})

        def manage_watchers(self) -> Any:
            return super().manage_watchers() if self._exclusive_running_command is None else None

    circus.Arbiter = Arbiter  # type: ignore[misc]


def hide_supervisor_controls() -> None:
    """Let circus' control sockets be files of this user.

    Reason: BentoML opens them on TCP ports of the loopback address, without authentication. Every process of the
    machine could let the supervisor run any command.
    Made for: BentoML 1.4.39 with kantoku 0.18.3 (its copy of circus).
    Unnecessary when: BentoML has a setting for the endpoints, or uses files itself.
    """
    from bentoml._internal.utils import circus

    folder = tempfile.mkdtemp(prefix="nervemask-supervisor-")  # with the mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    class Arbiter(circus.Arbiter):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            endpoints = {"endpoint": f"ipc://{folder}/control", "pubsub_endpoint": f"ipc://{folder}/events"}
            super().__init__(*arguments, **{**options, **endpoints})

    circus.Arbiter = Arbiter  # type: ignore[misc]
