"""The batch client against a server that is hostile, broken, or another program: one line that says what is wrong."""

import base64
import gzip
import json
import time
from collections.abc import Iterable

import pytest

from service.clients import bounded_network, response_reader
from service.clients.printable_text import MAX_CHARACTERS, printable
from tests.frames import disc, png
from tests.service.clients.conftest import list_files, write_file
from tests.service.clients.hostile_server import Reply, endless, hostile_server, http

pytestmark = pytest.mark.slow  # many real servers

MIB = 2**20
ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\r\nnervemask: all is well"
MODEL = http(json.dumps({"run_id": "r", "warnings": []}).encode())
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"[" * 65536 + b"\r\n"


def slow_header() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx: "
    while True:
        time.sleep(0.05)
        yield b"a"


SLOW = "a byte of a header now and then"
# Replies that are no response of this service, and a part of the reason that the client prints.
NOT_HTTP: dict[str, tuple[Reply, str]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
    "closes at once": (b"", "Server disconnected"),
    "header without end": (endless(b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65536), "Receive buffer too long"),
    "headers without end": (endless(b"HTTP/1.1 200 OK\r\n", b"x: a\r\n" * 9000), "Receive buffer too long"),
    "informational responses without end": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "more than"),
    SLOW: (slow_header, ""),
    "escapes in the status line": (b"HTTP/1.1 404 \x1b[2J\r\ncontent-length: 0\r\n\r\n", r"answers 404 \x1b[2J"),
}
NOT_THIS_SERVICE: dict[str, tuple[Reply, str]] = NOT_HTTP | {
    "body without end": (endless(JSON_HEAD, CHUNK), "more than"),
    "compressed": (
        http(gzip.compress(bytes(20 * MIB)), "application/json", "200 OK", "content-encoding: gzip"),
        "a compressed response",
    ),
    "a page": (http(b"<html>", "text/html"), "Content-Type 'text/html'"),
    "no Content-Type": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "Content-Type ''"),
    "a list": (http(b"[]"), "unexpected JSON"),
    "null": (http(b"null"), "unexpected JSON"),
    "no JSON": (http(b"{"), "unexpected JSON"),
    "no UTF-8": (http(b'{"\xff": 1}'), "unexpected JSON"),
    "missing key": (http(b"{}"), "unexpected JSON (run_id"),
    "number for a text": (http(b'{"run_id": 7}'), "unexpected JSON (run_id"),
    "NaN": (http(b'{"run_id": NaN}'), "unexpected JSON (run_id"),
    "number of 5000 digits": (http(b'{"run_id": "r", "warnings": ' + b"9" * 5000 + b"}"), "unexpected JSON"),
    "nested": (http(b'{"run_id": ' + b"[" * 100_000), "unexpected JSON"),
    "a thousand warnings": (http(json.dumps({"run_id": "r", "warnings": ["w"] * 1000}).encode()), "warnings"),
    "error of another form": (http(b'{"error": ["x"]}', status="403 Forbidden"), "answers 403 Forbidden"),
    "escapes in the error": (
        http(json.dumps({"error": {"code": "key", "message": ESCAPES}}).encode(), status="401 Unauthorized"),
        r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\r\nnervemask: all is well",
    ),
}


@pytest.fixture(autouse=True)
def small_limits(request, monkeypatch) -> None:
    monkeypatch.setattr(bounded_network, "MAX_RESPONSE_BYTES", 8 * MIB)
    if SLOW in request.node.name:
        monkeypatch.setattr(bounded_network, "MAX_RESPONSE_SECONDS", 1.0)


def assert_safe(text: str) -> None:
    """All characters of all lines can be seen, and no line is a traceback's."""
    assert "Traceback" not in text
    for line in text.splitlines():
        assert all(part.isprintable() for part in line.split("\t")), line
        assert len(line) < 2 * MAX_CHARACTERS + 50


@pytest.mark.parametrize("name", NOT_THIS_SERVICE)
def test_an_unexpected_description_of_the_model_ends_the_client_with_one_line(call_client, name) -> None:
    reply, reason = NOT_THIS_SERVICE[name]
    write_file("frame.png", png(disc(40, 48)))
    with hostile_server({"GET /model": reply}) as server:
        output = call_client("frame.png", "--out", "o.png", server=server.address, status=2)
    assert_safe(output.stderr)
    assert output.stderr.startswith("nervemask: ") and output.stderr.count("\n") == 1
    assert server.address in output.stderr and reason in output.stderr
    assert list_files(".") == {"frame.png"}


def segmentation(height: int = 40, width: int = 48, index: int = 0, **fields: object) -> dict[str, object]:
    """Return what the client uses of the JSON of a frame."""
    picture = base64.b64encode(png(disc(height, width))).decode()
    return {
        "frame": {"height": 40, "width": 48, "index": index},
        "nerve": {"present": True, "presence": 0.9, "area_px": 5, "area_mm2": None},
        "confidence": {"mask": 0.8},
        "milliseconds": {"decode": 1.0},
        "warnings": [],
        "picture": f"data:image/png;base64,{picture}",
    } | fields


def as_json(value: object) -> bytes:
    return http(json.dumps(value).encode())


def as_lines(*values: object) -> bytes:
    return http(b"\n".join(json.dumps(value).encode() for value in values), "application/jsonl")


UNUSABLE_MASKS: dict[str, tuple[Reply, str]] = NOT_HTTP | {
    "body without end": (endless(JSON_HEAD, CHUNK), "more than"),
    "line without end": (endless(JSON_HEAD.replace(b"/json", b"/jsonl"), CHUNK), "more than"),
    "a page": (http(b"<html>", "text/html"), "Content-Type 'text/html'"),
    "no Content-Type": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "Content-Type ''"),
    "a list": (as_json([]), "unexpected JSON"),
    "nested": (http(b'{"frame": ' + b"[" * 100_000), "unexpected JSON"),
    "NaN": (as_json(segmentation(confidence={"mask": float("nan")})), "unexpected JSON"),
    "no confidence": (as_json(segmentation(confidence=None)), "unexpected JSON"),
    "negative index": (as_json(segmentation(index=-1)), "unexpected JSON"),
    "no picture": (as_json(segmentation(picture=None)), "holds no PNG"),
    "picture at another address": (as_json(segmentation(picture="file:///etc/passwd")), "holds no PNG"),
    "picture not in base64": (as_json(segmentation(picture="data:image/png;base64,\x1b[2J")), "not in base64"),
    "no PNG": (as_json(segmentation(picture="data:image/png;base64,QUJD")), "not a PNG"),
    "mask of another size": (as_json(segmentation(48, 40)), "has 40 x 48 pixels, but the frame has 48 x 40"),
    "frame 2 after frame 0": (as_lines(segmentation(), segmentation(index=2)), "sends frame 2 where frame 1 is next"),
    "frame 0 twice": (as_lines(segmentation(), segmentation()), "sends frame 0 where frame 1 is next"),
    "escapes in the error": (
        http(json.dumps({"error": {"message": ESCAPES}}).encode(), status="400 Bad Request"),
        r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\r\nnervemask: all is well",
    ),
    "escapes in a frame's error": (
        as_lines({"frame": {"index": 0}, "error": {"code": "malformed", "message": ESCAPES}}),
        r"\x1b]0;title\x07",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE_MASKS)
def test_an_unusable_mask_is_a_failure_with_one_line(call_client, name) -> None:
    reply, reason = UNUSABLE_MASKS[name]
    write_file("frame.png", png(disc(40, 48)))
    with hostile_server({"GET /model": MODEL, "POST /segment": reply}) as server:
        output = call_client("frame.png", "--out", "o.png", server=server.address, status=1)
    assert_safe(output.stdout + output.stderr)
    assert output.stderr.startswith("frame.png") and output.stderr.count("\n") == 1
    assert (server.address in output.stderr or "escapes in" in name) and reason in output.stderr
    assert list_files(".") <= {"frame.png", "o_0000.png"}  # of a cine, the frames before the failure


def test_a_response_that_is_no_dicom_file_is_not_written(call_client) -> None:
    write_file("frame.dcm", b"")
    with hostile_server({"GET /model": MODEL, "POST /dicom": http(b"<html>", "text/html")}) as server:
        output = call_client("frame.dcm", "--out", "o.dcm", server=server.address, status=1)
    assert f"frame.dcm: {server.address}/dicom answers 200 OK with Content-Type 'text/html'" in output.stderr
    assert list_files(".") == {"frame.dcm"}


def test_a_dicom_file_without_end_is_not_written(call_client, monkeypatch) -> None:
    monkeypatch.setattr("service.clients.batch_client.MAX_FILE_BYTES", MIB)
    write_file("frame.dcm", b"")
    reply = endless(JSON_HEAD.replace(b"json", b"dicom"), CHUNK)
    with hostile_server({"GET /model": MODEL, "POST /dicom": reply}) as server:
        output = call_client("frame.dcm", "--out", "o.dcm", server=server.address, status=1)
    assert "more than 1048576 bytes" in output.stderr
    assert list_files(".") == {"frame.dcm"}


def test_escapes_in_warnings_and_file_names_are_printed_as_text(call_client) -> None:
    name = "in/a\x1b[2J\u202e\n\x9b.png"
    write_file(name, png(disc(40, 48)))
    write_file("in/b\x1b.txt", b"")
    model = as_json({"run_id": "r", "warnings": [f"model {ESCAPES}"]})
    frame = as_json(segmentation(warnings=[f"frame {ESCAPES}", "x" * 5 * MIB]))
    with hostile_server({"GET /model": model, "POST /segment": frame}) as server:
        output = call_client("in", "--out", "out", server=server.address)
        again = call_client("in", "--out", "out", server=server.address)
    assert_safe(output.stdout + output.stderr + again.stderr)
    assert output.stdout.startswith(f"{printable(name)}\tnerve\t")
    assert output.stderr.count(r"\x1b]0;title") == 2 and r"in/b\x1b.txt is skipped" in output.stderr
    assert len(output.stderr) < 10_000


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed_with_the_key(call_client, monkeypatch, status) -> None:
    monkeypatch.setenv("NERVEMASK_KEY", "secret-key")
    write_file("frame.png", png(disc(40, 48)))
    with hostile_server({"": MODEL}) as other:
        redirect = http(b"", "text/plain", status, f"location: {other.address}/model")
        with hostile_server({"GET /model": redirect}) as server:
            output = call_client("frame.png", "--out", "o.png", server=server.address, status=2)
        with hostile_server({"GET /model": MODEL, "POST /segment": redirect}) as server:
            failed = call_client("frame.png", "--out", "o.png", server=server.address, status=1)
    assert f"(a redirect to {other.address}/model, which is not followed)" in output.stderr
    assert "which is not followed" in failed.stderr
    assert other.requests == [] and b"secret-key" in server.requests[-1]


def test_a_printed_text_is_one_short_line_without_control_characters() -> None:
    assert printable("nerve é 神 ☃") == "nerve é 神 ☃"
    assert printable("\x00\x1b\x7f\x85\x9b\u200b\u202e\u2028\ud800\n\t") == (
        r"\x00\x1b\x7f\x85\x9b\u200b\u202e\u2028\ud800\n\t"
    )
    assert printable("x" * 5000) == "x" * MAX_CHARACTERS + "..."


def test_the_limits_let_the_largest_responses_of_the_service_pass() -> None:
    from service.api.upload import MAX_UPLOAD_BYTES
    from service.decoding.frame import MAX_PIXELS

    assert response_reader.MAX_FRAME_BYTES > MAX_PIXELS * 3 * 4 / 3 + 16 * MIB  # an overlay in base64, and the JSON
    assert response_reader.MAX_FILE_BYTES > MAX_UPLOAD_BYTES
