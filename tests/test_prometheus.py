"""What is seen from outside: metrics, the distance from what the champion knows, traces, idle connections."""

import http.server
import select
import shutil
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.accounts.drift import LEAST_FRAMES, intensity
from service.card import Card, Spread, Usual
from service.connections import HEAD_SECONDS, LOOK_SECONDS
from service.frame import Frame
from service.pictures import png
from tests.conftest import serving

pytestmark = pytest.mark.alone

PNG = {"content-type": "image/png"}


def metrics(address: str) -> dict[str, float]:
    """Each sample by its name and labels."""
    told = httpx.get(f"{address}/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    lines = [line.rpartition(" ") for line in told.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_what_is_asked_is_counted_over_all_workers(address, speckle) -> None:
    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    before = metrics(address)
    for _ in range(10):  # of either worker
        httpx.post(f"{address}/overlay", content=png(speckle(3)), headers=PNG)
        httpx.post(f"{address}/overlay", content=b"nothing", headers=PNG)
        httpx.get(f"{address}/a/path/of/theirs")
    after = metrics(address)
    assert grown('nervemask_requests_total{route="/overlay",status="200"}') == 10
    assert grown('nervemask_requests_total{route="/overlay",status="415"}') == 10
    assert grown('nervemask_requests_total{route="other",status="404"}') == 10
    assert grown('nervemask_frames_total{present="true"}') == 10
    assert grown('nervemask_refused_total{code="unknown_type"}') == 10
    assert grown("nervemask_presence_count") == grown("nervemask_confidence_count") == 10
    for step in ("decode", "network", "answer"):
        assert grown(f'nervemask_step_seconds_count{{step="{step}"}}') == 10
    assert grown("nervemask_frame_pixels_sum") == 10 * 420 * 580
    assert grown('nervemask_request_seconds_count{route="/overlay"}') == 20
    assert (after["nervemask_under_way"], after["nervemask_waiting"]) == (0, 0)
    assert not [name for name in after if "theirs" in name or name.startswith("bentoml")]


def test_the_model_is_told(address, card) -> None:
    labels = f'{{name="{card.name}",run_id="{card.run_id}",version="{card.version}"}}'
    assert metrics(address)["nervemask_model_info" + labels] == 1


def test_frames_unlike_those_of_the_training_are_shown_far_away(model_folder, segmenter, speckle, tmp_path) -> None:
    """First frames as the card tells of, then the same ones darker."""
    frames = [speckle(seed, 60, 80) for seed in range(LEAST_FRAMES)]
    means, deviations = zip(*(intensity(Frame(pixels)) for pixels in frames), strict=True)
    confidences = [segmenter.segment(Frame(pixels)).confidence for pixels in frames]
    usual = Usual(
        Spread(float(np.mean(means)), float(np.std(means))),
        Spread(float(np.mean(deviations)), float(np.std(deviations))),
        0.5,
        Spread(float(np.mean(confidences)), float(np.std(confidences))),
    )
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(Card.read(folder), usual=usual).write(folder)
    drift = 'nervemask_drift{of="intensity_mean"}'
    with serving(folder, tmp_path) as server, httpx.Client(base_url=server.address) as client:
        for pixels in frames:
            client.post("/mask", content=png(pixels), headers=PNG)
        near = metrics(server.address)
        for pixels in frames * 2:
            client.post("/mask", content=png(pixels // 4), headers=PNG)
        far = metrics(server.address)
        replace(Card.read(folder), version="8").write(folder)
        for _ in range(100):
            if (after := metrics(server.address))[drift] == 0:
                break
            time.sleep(0.1)
    assert near[drift] < 0.1
    assert far[drift] > 1
    assert far['nervemask_drift{of="presence_rate"}'] > 3  # the alert's: nerves in all frames, and not in every second
    assert after[drift] == 0  # another champion
    assert {f'nervemask_drift{{of="{of}"}}' for of in ("intensity_deviation", "presence_rate", "confidence")} <= set(
        far
    )


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_intensity_is_of_the_scan_on_the_scale_of_255(depth) -> None:
    pixels = np.full((40, 40), 100, depth) * (257 if depth == np.uint16 else 1)
    assert intensity(Frame(pixels.astype(depth))) == pytest.approx((100, 0))


def test_traces_go_where_the_environment_says(model_folder, tmp_path, speckle) -> None:
    came = threading.Event()

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and b"/mask" in body:
                came.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with serving(
            model_folder, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="200"
        ) as one:
            assert httpx.post(f"{one.address}/mask", content=png(speckle(1)), headers=PNG).status_code == 200
            assert came.wait(20)
        collector.shutdown()


def test_connections_that_ask_nothing_are_ended_and_keep_nobody_out(address, speckle) -> None:
    host, port = address.removeprefix("http://").split(":")
    idlers = [socket.create_connection((host, int(port))) for _ in range(3000)]
    try:
        idlers[0].sendall(b"GET /model HTTP/1.1\r\nHost: a\r\n")  # a head without an end
        answer = httpx.post(f"{address}/mask", content=png(speckle(1)), headers=PNG)
        assert answer.status_code == 200
        ended = select.poll()
        for one in idlers:
            ended.register(one, select.POLLIN)
        remaining = {one.fileno() for one in idlers}
        for _ in range(int(10 * (HEAD_SECONDS + 3 * LOOK_SECONDS))):
            remaining -= {number for number, _ in ended.poll(100)}
            for one in idlers:
                if one.fileno() not in remaining and one.fileno() >= 0:
                    ended.unregister(one)
                    one.close()
            if not remaining:
                break
        assert not remaining
    finally:
        for one in idlers:
            one.close()
