"""Read the upload of a frame request: the multipart field `frame`, or the raw body."""

import asyncio
import contextlib
import logging
import tempfile
from contextlib import aclosing
from typing import IO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.slow_transfer_timeout import MIN_BYTES_PER_SECOND, SlowTransferTimeout
from service.errors import ErrorCode, FrameError
from service.request_state import RequestState
from service.resources.worker_memory import FILE_MEMORY, RequestMemory
from service.route_table import FRAME_ROUTES, is_frame_request

log = logging.getLogger("bentoml.nervemask")

MIB = 2**20
ENOUGH_UPLOAD_BYTES = 512 * MIB  # an uncompressed cine of one minute
MAX_UPLOAD_BYTES = min(ENOUGH_UPLOAD_BYTES, FILE_MEMORY.largest)
MAX_UPLOAD_SECONDS = 240  # for the largest upload: 2 MiB per second
MAX_MEMORY_WAIT_SECONDS, MEMORY_CHECK_SECONDS = 20.0, 0.05  # of an upload, for the bytes that it declares
MAX_IN_MEMORY_BYTES = 16 * MIB  # a larger upload goes to the disk
UPLOAD_FIELD = "frame"
FORM_CONTENT_TYPE = "multipart/form-data"
RAW_CONTENT_TYPES = (
    "image/png",
    "image/jpeg",
    "image/tiff",
    "video/mp4",
    "application/dicom",
    "application/octet-stream",
)
# Programs have many names for one format, such as image/jpg and image/pjpeg. The content decides what the file is.
RAW_CONTENT_TYPE_PREFIXES = ("image/", "video/")


class UploadMiddleware:
    """ASGI middleware: reads the upload of a frame request into `RequestState.upload`, within limits.

    BentoML's own parser is not used: it would fetch a URL that is sent in place of a file (CVE-2025-54381), and it
    responds with 500 to many malformed uploads.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise FrameError (400, 413, 415, 429, 503, 504) for an upload that cannot be read."""
        if not is_frame_request(scope):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        check_query(request)
        state = RequestState.of(scope)
        body = UploadBody(receive, SlowTransferTimeout(state), state.memory)
        try:
            state.upload = await read_upload(Request(scope, body.receive), body)
            with state.upload:
                await self.app(scope, receive, send)
        finally:
            state.memory.release()


def check_query(request: Request) -> None:
    """Raise FrameError (400) for a query parameter that the route does not have, or that occurs twice.

    Without this check a misspelt parameter would have no effect, and the client would not notice.
    """
    path = request.scope["path"]
    parameters = FRAME_ROUTES[path]
    for name in request.query_params:
        if name not in parameters:
            message = f"{path} has no parameter {name[:40]!r}; its parameters: {', '.join(parameters) or 'none'}."
            raise FrameError(ErrorCode.UNKNOWN_PARAMETER, message)
        if len(request.query_params.getlist(name)) > 1:
            message = f"The parameter {name!r} occurs twice: send it once."
            raise FrameError(ErrorCode.UNKNOWN_PARAMETER, message)


class UploadBody:
    """Receives the body of one upload within its limits on bytes and time."""

    def __init__(self, receive: Receive, timeout: SlowTransferTimeout, memory: RequestMemory):
        self.wrapped_receive = receive
        self.timeout = timeout
        self.memory = memory
        self.received_bytes = 0

    async def wait_for_memory(self, byte_count: int) -> None:
        """Reserve the bytes that the client declares before any is kept. Raises FrameError (413, 429)."""
        if byte_count > MAX_UPLOAD_BYTES:  # refused before it is sent
            raise _too_large_error()
        end = asyncio.get_running_loop().time() + MAX_MEMORY_WAIT_SECONDS
        while True:
            try:
                self.memory.reserve_file(byte_count)
                return
            except FrameError as error:
                if error.code is not ErrorCode.TOO_MANY:
                    raise
                if asyncio.get_running_loop().time() > end:
                    await self._discard()
                    raise
            await asyncio.sleep(MEMORY_CHECK_SECONDS)

    async def _discard(self) -> None:
        """Read the body and forget it: many clients read no response while they still send."""
        with contextlib.suppress(TimeoutError):
            while (await self.timeout.receive(self.wrapped_receive)).get("more_body", False):
                pass

    async def receive(self) -> Message:
        """Return the next message. Raises FrameError (413, 429) and TimeoutError."""
        message = await self.timeout.receive(self.wrapped_receive)
        byte_count = len(message.get("body", b""))
        self.received_bytes += byte_count
        if self.received_bytes > MAX_UPLOAD_BYTES:
            raise _too_large_error()
        if self.received_bytes > self.memory.file_bytes:  # the client did not declare the length
            self.memory.reserve_file(self.received_bytes - self.memory.file_bytes)
        return message


async def read_upload(request: Request, body: UploadBody) -> IO[bytes]:
    """Return the request's only file; the caller closes it. Raises FrameError (400, 413, 415, 429, 503, 504)."""
    is_form = _is_form(request)
    content_length = request.headers.get("content-length", "0")
    if content_length.isdecimal():
        await body.wait_for_memory(int(content_length))
    try:
        async with asyncio.timeout(MAX_UPLOAD_SECONDS):
            return await (_read_multipart(request) if is_form else _read_raw(request))
    except TimeoutError as error:
        message = f"The upload is too slow: send at least {MIN_BYTES_PER_SECOND // 1024} KiB per second."
        raise FrameError(ErrorCode.TOO_SLOW, message) from error
    except OSError as error:  # the disk is full or read-only, or the folder is missing
        log.error("the upload cannot be written to the disk: %s", error)
        message = f"The service has no disk space for uploads above {MAX_IN_MEMORY_BYTES // MIB} MiB: try again later."
        raise FrameError(ErrorCode.NO_ROOM, message) from error
    except ClientDisconnect as error:  # no client reads this response, but BentoML waits for one
        raise FrameError(ErrorCode.BROKE_OFF, "The client disconnected during the upload.") from error


def _is_form(request: Request) -> bool:
    """Return whether the body is a form, and not the file itself. Raises FrameError 415."""
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        message = f"The body is compressed (Content-Encoding {encoding[:40]}): send it uncompressed."
        raise FrameError(ErrorCode.CONTENT_TYPE, message)
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_raw = content_type in RAW_CONTENT_TYPES or content_type.startswith(RAW_CONTENT_TYPE_PREFIXES)
    if content_type != FORM_CONTENT_TYPE and not is_raw:
        message = (
            f"The Content-Type is {content_type[:80] or 'missing'}: send {FORM_CONTENT_TYPE} or one of "
            f"{', '.join(RAW_CONTENT_TYPES)}."
        )
        raise FrameError(ErrorCode.CONTENT_TYPE, message)
    return content_type == FORM_CONTENT_TYPE


def _too_large_error() -> FrameError:
    return FrameError(ErrorCode.TOO_LARGE, f"The upload is larger than {MAX_UPLOAD_BYTES // MIB} MiB.")


async def _read_raw(request: Request) -> IO[bytes]:
    file = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        async for chunk in request.stream():
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    return file


async def _read_multipart(request: Request) -> IO[bytes]:
    try:
        form = await _parse_form(request)
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise FrameError(ErrorCode.MULTIPART, "The multipart body is malformed.") from error
    files = form.getlist(UPLOAD_FIELD)
    other_fields = [name for name in form if name != UPLOAD_FIELD]
    if len(files) == 1 and isinstance(files[0], UploadFile) and not other_fields:
        return files[0].file
    await form.close()
    usage = f"send one file in the field {UPLOAD_FIELD!r} (curl -F {UPLOAD_FIELD}=@FILE)"
    if len(files) != 1:
        message = f"The form has {len(files)} files in the field {UPLOAD_FIELD!r}: {usage}."
        raise FrameError(ErrorCode.ONE_FRAME, message)
    if other_fields:
        message = f"The form has an unknown field {other_fields[0][:40]!r}: {usage}, and send parameters in the URL."
        raise FrameError(ErrorCode.UNKNOWN_PARAMETER, message)
    raise FrameError(ErrorCode.NOT_A_FILE, f"The field {UPLOAD_FIELD!r} holds text: {usage}.")


class FormParser(MultiPartParser):
    """Starlette's parser with this service's limit on files in memory; Starlette's own is 1 MiB."""

    spool_max_size = MAX_IN_MEMORY_BYTES


async def _parse_form(request: Request) -> FormData:
    async with aclosing(request.stream()) as stream:
        return await FormParser(request.headers, stream, max_files=2, max_fields=2).parse()
