"""Every error response has the same JSON body, with the status and the code of its cause."""

import httpx
import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from service.rendering.images import encode_png
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.api.asgi import PNG

pytestmark = pytest.mark.server

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
