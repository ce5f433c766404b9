"""What the server refuses: each with its status, all in one shape."""

import http.client
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from service.pictures import png
from service.upload import LIMIT_BYTES
from tests.dicoms import ultrasound, written

PNG = {"content-type": "image/png"}
GREY = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
FRAME = png(GREY)
DICOM = written(ultrasound(GREY))
CT = written(ultrasound(GREY, SOPClassUID=CTImageStorage, Modality="CT"))
IS_DICOM = {"content-type": "application/dicom"}
BROKEN = {"content-type": "multipart/form-data; boundary=b"}
REFUSED = {
    "unknown route": ("GET", "/nothing", {}, 404, "not_found"),
    "unknown route, POST": ("POST", "/nothing", {"content": FRAME}, 404, "not_found"),
    "a route with a line's end": ("POST", "/mask%0A", {"content": FRAME, "headers": PNG}, 404, "not_found"),
    "GET of a mask": ("GET", "/mask", {}, 405, "method_not_allowed"),
    "POST of a model": ("POST", "/model", {}, 405, "method_not_allowed"),
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
    "a parameter twice": (
        "POST",
        "/mask?index=0&index=1",
        {"content": FRAME, "headers": PNG},
        400,
        "unknown_parameter",
    ),
    "a parameter in the form": (
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
    "text": ("POST", "/mask", {"content": b"no picture", "headers": PNG}, 415, "unknown_type"),
    "text as a file": ("POST", "/mask", {"files": {"frame": b"no picture"}}, 415, "unknown_type"),
    "another type": (
        "POST",
        "/mask",
        {"content": FRAME, "headers": {"content-type": "text/html"}},
        415,
        "content_type",
    ),
    "JSON": ("POST", "/segment", {"json": {"frame": "x"}}, 415, "content_type"),
    "a form": ("POST", "/segment", {"data": {"frame": "x"}}, 415, "content_type"),
    "no type": ("POST", "/mask", {"content": FRAME}, 415, "content_type"),
    "nothing": ("POST", "/mask", {"content": b"", "headers": PNG}, 400, "empty"),
    "an empty file": ("POST", "/segment", {"files": {"frame": b""}}, 400, "empty"),
    "half a PNG": ("POST", "/mask", {"content": FRAME[:2000], "headers": PNG}, 400, "malformed"),
    "half a PNG as a file": ("POST", "/segment", {"files": {"frame": FRAME[:2000]}}, 400, "malformed"),
    "another field": ("POST", "/mask", {"files": {"picture": FRAME}}, 400, "one_frame"),
    "two frames": ("POST", "/mask", {"files": [("frame", FRAME), ("frame", FRAME)]}, 400, "one_frame"),
    "three frames": ("POST", "/mask", {"files": [("frame", FRAME)] * 3}, 400, "multipart"),
    "an address": (
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
    "multipart of rubbish": ("POST", "/mask", {"content": b"\0rubbish", "headers": BROKEN}, 400, "multipart"),
    "multipart of nothing": ("POST", "/mask", {"content": b"", "headers": BROKEN}, 400, "one_frame"),
    "multipart without a name": (
        "POST",
        "/mask",
        {"content": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "headers": BROKEN},
        400,
        "multipart",
    ),
    "15x15": ("POST", "/mask", {"content": png(GREY[:15, :15]), "headers": PNG}, 422, "too_small"),
    "half a DICOM": ("POST", "/segment", {"content": DICOM[:700], "headers": IS_DICOM}, 422, "no_pixels"),
    "DICOM without its letters": ("POST", "/mask", {"content": bytes(200), "headers": IS_DICOM}, 415, "unknown_type"),
    "a CT": ("POST", "/dicom", {"content": CT, "headers": IS_DICOM}, 422, "not_ultrasound"),
    "a picture for /dicom": ("POST", "/dicom", {"content": FRAME, "headers": PNG}, 422, "not_dicom"),
    "an unknown picture": ("POST", "/segment?picture=x", {"content": FRAME, "headers": PNG}, 400, "picture"),
    "15x15, JSON": ("POST", "/segment", {"files": {"frame": png(GREY[:15, :15])}}, 422, "too_small"),
}


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message"}
    assert error["error"]["code"] == code
    assert error["error"]["message"].endswith(".")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_shape(client, name) -> None:
    method, route, request, status, code = REFUSED[name]
    refused(client.request(method, route, **request), status, code)


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
def test_too_large_a_body_is_refused_before_it_is_sent(address, kind) -> None:
    asked = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    asked.putrequest("POST", "/mask")
    asked.putheader("content-type", kind)
    asked.putheader("content-length", str(LIMIT_BYTES + 1))
    asked.endheaders()
    answer = asked.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "too_large"
    asked.close()


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("image/png", b""),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="frame"; filename="a.png"\r\n\r\n',
        ),
    ],
    ids=["raw", "multipart"],
)
def test_too_large_a_body_is_refused_while_it_comes(client, kind, head) -> None:
    def chunks() -> Iterator[bytes]:
        yield head
        for _ in range(LIMIT_BYTES // 2**20 + 1):
            yield bytes(2**20)

    refused(client.post("/mask", content=chunks(), headers={"content-type": kind}), 413, "too_large")
