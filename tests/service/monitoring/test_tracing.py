"""Traces go to the OpenTelemetry endpoint that the environment names."""

import http.server
import threading

import httpx
import pytest

from service.rendering.image_encoding import encode_png
from tests.conftest import serving

pytestmark = pytest.mark.server


def test_a_request_is_traced(model_folder, tmp_path, speckle) -> None:
    received = threading.Event()

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and b"/mask" in body:
                received.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, args=(0.02,), daemon=True).start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        with serving(model_folder, tmp_path, **environment) as server:
            png = {"content-type": "image/png"}
            response = httpx.post(f"{server.address}/mask", content=encode_png(speckle(1)), headers=png, timeout=60)
            assert response.status_code == 200
            assert received.wait(60)
        collector.shutdown()
