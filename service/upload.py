"""From a request to the frame's bytes: multipart field `frame`, or the raw body."""

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import FrameError
from service.guard import error_response

LIMIT_BYTES = 32 * 1024 * 1024
FIELD = "frame"
FRAME_ROUTES = ("/mask", "/segment")
RAW_TYPES = ("image/png", "image/jpeg", "image/tiff", "application/octet-stream")


class Upload:
    """ASGI middleware: on the routes that take a frame, reads it and leaves its bytes in `request.state.upload`.

    What BentoML's own parser then meets is an empty body: it would fetch an address sent in place of a file
    (CVE-2025-54381), and it answers 500 to many a broken upload.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in FRAME_ROUTES or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            data = await read_upload(Request(scope, counted(receive, Headers(scope=scope))))
        except FrameError as fault:
            await error_response(fault.status, fault.code, fault.message)(scope, receive, send)
            return
        bodyless = [(k, v) for k, v in scope["headers"] if k not in (b"content-type", b"content-length")]
        bodyless.append((b"content-type", b"application/json"))
        read = {**scope, "headers": bodyless, "state": {**scope.get("state", {}), "upload": data}}
        await self.app(read, _empty_body(receive), send)


async def read_upload(request: Request) -> bytes:
    """The bytes of the request's one frame. Raises FrameError (400, 413, 415)."""
    try:
        return await _read(request)
    except ClientDisconnect as fault:  # nobody reads this, but BentoML waits for an answer
        raise FrameError("broke_off", "The upload broke off.", 400) from fault


async def _read(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request)
    if kind not in RAW_TYPES:
        raise FrameError(
            "content_type",
            f"Send multipart/form-data or one of {', '.join(RAW_TYPES)}, not {kind[:80] or 'nothing'}.",
            415,
        )
    return await request.body()


async def _multipart(request: Request) -> bytes:
    try:
        async with request.form(max_files=2, max_fields=2) as form:
            parts = form.getlist(FIELD)
            if len(parts) != 1:
                raise FrameError("one_frame", f"Send exactly one file in the field {FIELD!r}, not {len(parts)}.", 400)
            if not isinstance(parts[0], UploadFile):
                raise FrameError("not_a_file", f"The field {FIELD!r} holds text: send the file itself.", 400)
            return await parts[0].read()
    except (HTTPException, KeyError, UnicodeDecodeError) as fault:  # inside an app, Starlette raises its own
        raise FrameError("multipart", "The multipart body is malformed.", 400) from fault


def counted(receive: Receive, headers: Headers) -> Receive:
    """`receive`, with a limit on the bytes that are declared and on those that come. Raises FrameError 413."""
    declared = headers.get("content-length", "0")
    received = 0
    too_large = FrameError("too_large", f"The upload is larger than {LIMIT_BYTES // 2**20} MiB.", 413)

    async def limited() -> Message:
        nonlocal received
        if declared.isdigit() and int(declared) > LIMIT_BYTES:
            raise too_large
        message = await receive()
        received += len(message.get("body", b""))
        if received > LIMIT_BYTES:
            raise too_large
        return message

    return limited


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
