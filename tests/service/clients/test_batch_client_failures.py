"""`python -m service.client`: damaged files, and a service that is busy, breaks off a response or is not there."""

import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from service.clients.retries import MAX_BATCH_ATTEMPTS
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.clients.client_process import start_client
from tests.service.clients.conftest import list_files, write_file
from tests.service.clients.proxy_server import busy_reply

pytestmark = pytest.mark.server


def test_a_damaged_file_does_not_stop_the_others(run_client, frame_files) -> None:
    for number in range(6):
        write_file(f"in/{number}.png", frame_files[".png"])
    write_file("in/3.png", b"no picture")
    write_file("in/4.png", frame_files[".png"][:500])
    output = run_client("in", "--out", "out", status=1)
    assert list_files("out") == {"0.png", "1.png", "2.png", "5.png"}
    lines = output.stderr.splitlines()
    assert len(lines) == 3  # with the model's warning
    assert any(line.startswith("in/3.png: The type of the file is unknown") for line in lines)
    assert any(line.startswith("in/4.png: ") and "damaged" in line for line in lines)


def test_a_damaged_frame_of_a_cine(run_client, speckle) -> None:
    cine = make_ultrasound(np.stack([speckle(seed, 120, 160) for seed in range(4)]))
    cine.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    encoded = list(generate_frames(cine.PixelData, number_of_frames=4))
    encoded[2] = encoded[2][:40] + bytes(len(encoded[2]) - 40)
    cine.PixelData = encapsulate(encoded)
    write_file("cine.dcm", to_bytes(cine))
    output = run_client("cine.dcm", "--out", "o.png", status=1)
    assert "cine.dcm[2]: Frame 2 is damaged" in output.stderr
    assert list_files(".") == {"cine.dcm", "o_0000.png", "o_0001.png", "o_0003.png"}
    output = run_client("cine.dcm", "--out", "seg.dcm", status=1)
    assert "Frame 2" in output.stderr
    assert not Path("seg.dcm").exists()


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "127.0.0.1:3000", "http://["])
def test_no_service_at_the_address(run_client, frame_files, server) -> None:
    write_file("frame.png", frame_files[".png"])
    output = run_client("frame.png", "--out", "o.png", "--server", server, status=2)
    remedy = "make serve" if "://" in server else "begins with http://"
    assert server in output.stderr and remedy in output.stderr
    assert output.stderr.count("\n") == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_busy_service_gets_the_request_again_after_retry_after(run_client, proxy, frame_files, status) -> None:
    write_file("frame.png", frame_files[".png"])
    proxy.replies = [busy_reply(status, 1), busy_reply(status, 0)]
    run_client("frame.png", "--out", "o.png", server=proxy.address)
    assert Path("o.png").exists()
    first, second, _ = proxy.post_times
    assert second - first >= 0.9


def test_a_service_that_stays_busy_is_given_up(run_client, proxy, frame_files) -> None:
    write_file("frame.png", frame_files[".png"])
    proxy.replies = [busy_reply("429 Too Many Requests", 0)] * (MAX_BATCH_ATTEMPTS + 1)
    output = run_client("frame.png", "--out", "o.png", server=proxy.address, status=1)
    assert "frame.png: Too many requests at once." in output.stderr
    assert len(proxy.post_times) == MAX_BATCH_ATTEMPTS


@pytest.mark.parametrize("out", ["o.json", "o.dcm", "o.png"])
def test_an_incomplete_response_leaves_no_file(run_client, proxy, frame_files, out) -> None:
    write_file("frame.dcm", frame_files[".dcm"])
    content_type = b"application/dicom" if out == "o.dcm" else b"application/jsonl"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + content_type + b"\r\ncontent-length: 1000\r\n\r\n"
    proxy.replies = [head + b'{"frame": {"index": 0}, "error": {"message": "damaged"}}\n{"frame": {"ind']
    output = run_client("frame.dcm", "--out", out, server=proxy.address, status=1)
    assert "frame.dcm: the response is incomplete" in output.stderr
    assert list_files(".") == {"frame.dcm"}


def test_a_service_that_disappears(run_client, proxy, frame_files) -> None:
    for number in range(20):
        write_file(f"in/{number}.png", frame_files[".png"])
    proxy.disappears = True
    output = run_client("in", "--out", "out", server=proxy.address, status=2)
    assert "cannot be reached" in output.stderr
    assert output.stderr.count("\n") == 2  # with the model's warning


@pytest.mark.parametrize("status", [200, 404])
def test_another_server_at_the_address(run_client, frame_files, status) -> None:
    class HtmlHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "text/html")
            self.end_headers()

    write_file("frame.png", frame_files[".png"])
    with ThreadingHTTPServer(("127.0.0.1", 0), HtmlHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        output = run_client("frame.png", "--out", "o.png", server=f"http://127.0.0.1:{server.server_port}", status=2)
        server.shutdown()
    assert f"answers {status}" in output.stderr


def test_an_interrupt_ends_the_client(proxy, frame_files, tmp_path) -> None:
    (tmp_path / "frame.png").write_bytes(frame_files[".png"])
    proxy.replies = [busy_reply("429 Too Many Requests", 60)]
    arguments = ["-m", "service.client", "frame.png", "--out", "o.png"]
    process = start_client(
        tmp_path, proxy.address, *arguments, stderr=subprocess.PIPE, preexec_fn=restore_interrupt_handler
    )
    while not proxy.post_times:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def restore_interrupt_handler() -> None:
    """A shell lets its background processes ignore SIGINT, and the tests may run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
