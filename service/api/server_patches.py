"""All changes to foreign libraries at run time.

Each function makes one change. Its docstring gives the reason, the version for which it was made, and what would make
it unnecessary. tests/service/api/test_server_patches.py fails when a change is no longer needed.
"""

import os
import socket
from typing import Any

import uvloop
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service.api.idle_connections import ConnectionLimiter
from service.api.shared_socket_server import serve_shared_socket
from service.api.upload_buffers import HighWaterLimit
from service.machine_resources import raise_open_file_limit

WORKER_CHECK_SECONDS = 0.5


def patch_supervisor() -> None:
    """Change BentoML and circus in the supervisor, before it starts the workers."""
    replace_killed_workers_in_containers()
    check_workers_often()


def patch_worker() -> None:
    """Change BentoML, uvicorn and uvloop in a worker, before it serves."""
    disable_bentoml_timeout()
    raise_open_file_limit()
    limiter = ConnectionLimiter(AutoHTTPProtocol)
    limit_connections(limiter)
    share_upload_buffers(limiter)
    accept_one_by_one(limiter)


def disable_bentoml_timeout() -> None:
    """Remove BentoML's timeout of a request; UploadMiddleware and RequestQueueMiddleware have timeouts of their own.

    Reason: the timeout includes the upload and the whole of a cine's response, it cannot be switched off, and its timer
    stays in the event loop after the response, with 0.7 KiB of memory per request.
    Made for: BentoML 1.4.39.
    Unnecessary when: BentoML's setting traffic.timeout accepts None.
    """
    TimeoutMiddleware.__call__ = lambda self, *request: self.app(*request)  # type: ignore[method-assign]


def limit_connections(limiter: ConnectionLimiter) -> None:
    """Register every HTTP connection of this process with a ConnectionLimiter.

    Reason: uvicorn has no timeout for a connection that has sent no complete request, and BentoML has no setting for
    uvicorn's protocol class.
    Made for: uvicorn 0.54.0, BentoML 1.4.39.
    Unnecessary when: uvicorn has a timeout for the head of a request and a limit that closes idle connections first; or
    when the service is reachable only through a proxy that has both.
    """
    connection_made = AutoHTTPProtocol.connection_made

    def register(self: Any, transport: Any) -> None:
        connection_made(self, transport)
        limiter.add(self)

    AutoHTTPProtocol.connection_made = register  # type: ignore[method-assign]


def share_upload_buffers(limiter: ConnectionLimiter) -> None:
    """Let uvicorn buffer more of an upload while there are few connections.

    Reason: with uvicorn's constant of 64 KiB a large upload is read in many small pieces, which takes longer.
    Made for: uvicorn 0.54.0.
    Unnecessary when: uvicorn has a setting for its high-water mark.
    """
    httptools_impl.HIGH_WATER_LIMIT = HighWaterLimit(limiter)  # type: ignore[assignment]


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
