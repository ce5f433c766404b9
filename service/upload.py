"""From a request to the upload's file: multipart field `frame`, or the raw body."""

import asyncio
import logging
import tempfile
from typing import IO

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import FrameError
from service.guard import LEAST_BYTES_PER_SECOND, TURNS, Answer, Patience
from service.machine import WORKERS, memory
from service.refusals import shape

log = logging.getLogger("bentoml.nervemask")


def budget(memory: int) -> int:
    """Bytes of all uploads that one worker may hold at once. memory: bytes of all workers together.

    A quarter goes to uploads, because /tmp may lie in memory; half to decoders (service.isolation).
    """
    return min(2 * 2**30, memory // 4 // WORKERS)


BUDGET_BYTES = budget(memory())
LIMIT_BYTES = min(512 * 2**20, BUDGET_BYTES)  # of one upload: a cine of a minute, uncompressed
UPLOAD_SECONDS = 240  # for the largest: two MiB a second
IN_MEMORY_BYTES = 16 * 1024 * 1024  # what is larger waits on the disk
FIELD = "frame"
# The routes that take a frame, and what may be asked of each in its address.
FRAME_ROUTES = {"/mask": ("index",), "/overlay": ("index",), "/segment": ("index", "picture"), "/dicom": ()}
RAW_TYPES = ("image/png", "image/jpeg", "image/tiff", "application/dicom", "application/octet-stream")

MultiPartParser.spool_max_size = IN_MEMORY_BYTES


class Upload:
    """ASGI middleware: on the routes that take a frame, reads it and leaves its file in `request.state.upload`.

    What BentoML's own parser then meets is an empty body: it would fetch an address sent in place of a file
    (CVE-2025-54381), and it answers 500 to many a broken upload.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.held = 0  # bytes of all uploads under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in FRAME_ROUTES or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        count, patience = Count(self, Headers(scope=scope)), Patience()
        try:
            _check_query(Request(scope))
            with (
                TURNS.hand(state.get("who") or (scope.get("client") or ("",))[0]),
                await read_upload(Request(scope, count.counted(receive, patience))) as state["upload"],
            ):
                bodyless = [(k, v) for k, v in scope["headers"] if k not in (b"content-type", b"content-length")]
                bodyless.append((b"content-type", b"application/json"))
                read = {**scope, "headers": bodyless}
                await Answer(TURNS, receive, send, patience).give(self.app, read, _empty_body(receive))
        except FrameError as fault:
            await shape(fault)(scope, receive, send)
        finally:
            self.held -= count.bytes


def _check_query(request: Request) -> None:
    """A misspelt setting would change nothing without a word, as would the first of two. Raises FrameError 400."""
    path = request.scope["path"]
    known = FRAME_ROUTES[path]
    for name in request.query_params:
        if name not in known:
            offered = f"{path} knows {' and '.join(known) or 'none'}"
            raise FrameError("unknown_parameter", f"There is no parameter {name[:40]!r}: {offered}.", 400)
        if len(request.query_params.getlist(name)) > 1:
            raise FrameError("unknown_parameter", f"The parameter {name!r} stands there twice: send it once.", 400)


class Count:
    """The bytes of one upload, held against its limit and against the budget of all."""

    def __init__(self, upload: Upload, headers: Headers):
        self.upload = upload
        self.declared = headers.get("content-length", "0")
        self.bytes = 0

    def counted(self, receive: Receive, patience: Patience) -> Receive:
        """`receive`, with a limit on the bytes that are declared and on those that come. Raises FrameError."""

        async def limited() -> Message:
            if self.declared.isdigit() and int(self.declared) > LIMIT_BYTES:
                raise self._too_large()
            message = await patience.wait(receive())
            more = len(message.get("body", b""))
            self.bytes += more
            self.upload.held += more
            if self.bytes > LIMIT_BYTES:
                raise self._too_large()
            if self.upload.held > BUDGET_BYTES:
                raise FrameError("too_many", "Too much is uploaded at once: try again in a few seconds.", 429)
            return message

        return limited

    def _too_large(self) -> FrameError:
        return FrameError("too_large", f"The upload is larger than {LIMIT_BYTES // 2**20} MiB.", 413)


async def read_upload(request: Request) -> IO[bytes]:
    """The request's one file, to be closed by the caller. Raises FrameError (400, 413, 415, 429, 503, 504)."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            return await _read(request)
    except TimeoutError as fault:
        told = f"The upload came too slowly: {LEAST_BYTES_PER_SECOND // 1024} KiB a second are the least."
        raise FrameError("too_slow", told, 504) from fault
    except OSError as fault:  # full, read-only, or no such folder
        log.error("an upload cannot be kept on the disk: %s", fault)
        told = f"The service has no room for uploads above {IN_MEMORY_BYTES // 2**20} MiB now: its disk is full."
        raise FrameError("no_room", told, 503) from fault
    except ClientDisconnect as fault:  # nobody reads this, but BentoML waits for an answer
        raise FrameError("broke_off", "The upload broke off.", 400) from fault


async def _read(request: Request) -> IO[bytes]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request)
    if kind not in RAW_TYPES:
        raise FrameError(
            "content_type",
            f"Send multipart/form-data or one of {', '.join(RAW_TYPES)}, not {kind[:80] or 'nothing'}.",
            415,
        )
    file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        async for chunk in request.stream():
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    return file


async def _multipart(request: Request) -> IO[bytes]:
    try:
        form = await request.form(max_files=2, max_fields=2)
    except (HTTPException, KeyError, UnicodeDecodeError) as fault:  # inside an app, Starlette raises its own
        raise FrameError("multipart", "The multipart body is malformed.", 400) from fault
    parts = form.getlist(FIELD)
    others = [name for name in form if name != FIELD]
    if len(parts) == 1 and isinstance(parts[0], UploadFile) and not others:
        return parts[0].file
    await form.close()
    if len(parts) != 1:
        raise FrameError(
            "one_frame", f"Send one file in the field {FIELD!r} (curl -F {FIELD}=@FILE), not {len(parts)}.", 400
        )
    if others:
        told = f"There is no field {others[0][:40]!r}: a form holds {FIELD!r} alone, parameters stand in the address."
        raise FrameError("unknown_parameter", told, 400)
    raise FrameError(
        "not_a_file", f"The field {FIELD!r} holds text: send the file itself (curl -F {FIELD}=@FILE).", 400
    )


def _empty_body(receive: Receive) -> Receive:
    """An empty body once, and then what `receive` still has to say: that the client went away."""
    sent = False

    async def empty() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return empty
