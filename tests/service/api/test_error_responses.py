"""Every error response has the same JSON body, with the status and the code of its cause."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from pydicom.uid import CTImageStorage
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.api.error_responses import ErrorMiddleware
from service.errors import ErrorCode, FrameError
from service.monitoring.prometheus_metrics import ERRORS_TOTAL
from service.rendering.image_encoding import encode_png
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.api.asgi import PNG, FrameRequest

GREY = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
FRAME = encode_png(GREY)
DICOM = to_bytes(make_ultrasound(GREY))
CT = to_bytes(make_ultrasound(GREY, SOPClassUID=CTImageStorage, Modality="CT"))
DICOM_TYPE = {"content-type": "application/dicom"}
FORM_TYPE = {"content-type": "multipart/form-data; boundary=b"}
REFUSED_REQUESTS = {
    "unknown route": ("GET", "/nothing", {}, 404, "not_found"),
    "unknown route, POST": ("POST", "/nothing", {"content": FRAME}, 404, "not_found"),
    "a route with a line feed": ("POST", "/mask%0A", {"content": FRAME, "headers": PNG}, 404, "not_found"),
    "GET of /mask": ("GET", "/mask", {}, 405, "method_not_allowed"),
    "POST of /model": ("POST", "/model", {}, 405, "method_not_allowed"),
    "a misspelt parameter": (
        "POST",
        "/segment?indx=1",
        {"content": FRAME, "headers": PNG},
        400,
        "unknown_parameter",
    ),
    "another route's parameter": (
        "POST",
        "/mask?picture=mask",
        {"content": FRAME, "headers": PNG},
        400,
        "unknown_parameter",
    ),
    "a repeated parameter": (
        "POST",
        "/mask?index=0&index=1",
        {"content": FRAME, "headers": PNG},
        400,
        "unknown_parameter",
    ),
    "a parameter as a form field": (
        "POST",
        "/mask",
        {"files": {"frame": FRAME}, "data": {"index": "1"}},
        400,
        "unknown_parameter",
    ),
    "a picture in GeoJSON": (
        "POST",
        "/segment?picture=mask",
        {"content": FRAME, "headers": PNG | {"accept": "application/geo+json"}},
        400,
        "picture",
    ),
    "text": ("POST", "/mask", {"content": b"no image", "headers": PNG}, 415, "unknown_type"),
    "text, multipart": ("POST", "/mask", {"files": {"frame": b"no image"}}, 415, "unknown_type"),
    "another Content-Type": (
        "POST",
        "/mask",
        {"content": FRAME, "headers": {"content-type": "text/html"}},
        415,
        "content_type",
    ),
    "a compressed body": (
        "POST",
        "/segment",
        {"content": FRAME, "headers": {"content-type": "image/png", "content-encoding": "gzip"}},
        415,
        "content_type",
    ),
    "a slash too many": ("POST", "/mask/", {"files": {"frame": FRAME}}, 404, "not_found"),
    "a slash too many, GET": ("GET", "/model/", {}, 404, "not_found"),
    "JSON": ("POST", "/segment", {"json": {"frame": "x"}}, 415, "content_type"),
    "a URL-encoded form": ("POST", "/segment", {"data": {"frame": "x"}}, 415, "content_type"),
    "no Content-Type": ("POST", "/mask", {"content": FRAME}, 415, "content_type"),
    "an empty body": ("POST", "/mask", {"content": b"", "headers": PNG}, 400, "empty"),
    "an empty file": ("POST", "/segment", {"files": {"frame": b""}}, 400, "empty"),
    "half a PNG": ("POST", "/mask", {"content": FRAME[:2000], "headers": PNG}, 400, "malformed"),
    "half a PNG, multipart": ("POST", "/segment", {"files": {"frame": FRAME[:2000]}}, 400, "malformed"),
    "another form field": ("POST", "/mask", {"files": {"picture": FRAME}}, 400, "one_frame"),
    "two frames": ("POST", "/mask", {"files": [("frame", FRAME), ("frame", FRAME)]}, 400, "one_frame"),
    "three frames": ("POST", "/mask", {"files": [("frame", FRAME)] * 3}, 400, "multipart"),
    "a URL": (
        "POST",
        "/mask",
        {"files": {"frame": (None, "http://127.0.0.1/frame.png")}},
        400,
        "not_a_file",
    ),
    "multipart without boundary": (
        "POST",
        "/mask",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "multipart",
    ),
    "multipart with an invalid body": (
        "POST",
        "/mask",
        {"content": b"\0invalid", "headers": FORM_TYPE},
        400,
        "multipart",
    ),
    "multipart with an empty body": ("POST", "/mask", {"content": b"", "headers": FORM_TYPE}, 400, "one_frame"),
    "multipart with a part without a name": (
        "POST",
        "/mask",
        {"content": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "headers": FORM_TYPE},
        400,
        "multipart",
    ),
    "15x15 pixels": ("POST", "/mask", {"content": encode_png(GREY[:15, :15]), "headers": PNG}, 422, "too_small"),
    "half a DICOM": ("POST", "/segment", {"content": DICOM[:700], "headers": DICOM_TYPE}, 422, "no_pixels"),
    "DICOM without its prefix": ("POST", "/mask", {"content": bytes(200), "headers": DICOM_TYPE}, 415, "unknown_type"),
    "a CT": ("POST", "/dicom", {"content": CT, "headers": DICOM_TYPE}, 422, "not_ultrasound"),
    "a PNG for /dicom": ("POST", "/dicom", {"content": FRAME, "headers": PNG}, 422, "not_dicom"),
    "an unknown kind of picture": ("POST", "/segment?picture=x", {"content": FRAME, "headers": PNG}, 400, "picture"),
    "15x15 pixels, multipart": ("POST", "/segment", {"files": {"frame": encode_png(GREY[:15, :15])}}, 422, "too_small"),
}


@pytest.mark.server
@pytest.mark.parametrize("name", REFUSED_REQUESTS)
def test_a_refused_request_gets_its_status_and_code(client, name) -> None:
    method, route, request, status, code = REFUSED_REQUESTS[name]
    response: httpx.Response = client.request(method, route, **request)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert set(content) == {"error"}
    assert set(content["error"]) == {"code", "message"}
    assert content["error"]["code"] == code
    assert content["error"]["message"].endswith(".")


async def failing_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("an internal detail")


async def refusing_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise FrameError(ErrorCode.TOO_SMALL, "The frame is too small.")


async def app_without_a_route(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("Not Found", 404)(scope, receive, send)


async def app_that_fails_after_its_head(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body", "body": b"an internal", "more_body": True})
    raise RuntimeError("an internal detail")


@pytest.mark.parametrize(
    ("app", "path", "status", "code"),
    [
        (failing_app, "/mask", 500, "internal"),
        (app_that_fails_after_its_head, "/mask", 500, "internal"),
        (refusing_app, "/mask", 422, "too_small"),
        (app_without_a_route, "/nothing", 404, "not_found"),
        (failing_app, "/mask\n", 404, "not_found"),
    ],
)
def test_every_error_is_counted_once_by_its_code(app, path, status, code) -> None:
    counter = ERRORS_TOTAL.labels(code)
    before = counter._value.get()
    request = FrameRequest(path=path)
    asyncio.run(request.send_to(ErrorMiddleware(app)))
    assert counter._value.get() == before + 1
    assert request.status == status
    assert json.loads(request.sent[-1]["body"])["error"]["code"] == code
    assert len(request.sent) == 2


def test_a_failure_after_the_start_of_the_response_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    request = FrameRequest()
    with pytest.raises(RuntimeError):
        asyncio.run(request.send_to(ErrorMiddleware(app)))
    assert len(request.sent) == 1
