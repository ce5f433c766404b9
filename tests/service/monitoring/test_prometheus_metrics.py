"""/metrics counts the requests, errors and frames of all workers."""

import httpx
import pytest

from service.rendering.image_encoding import encode_png
from tests.service.monitoring.prometheus_samples import read_samples

pytestmark = [pytest.mark.server, pytest.mark.serial]

PNG = {"content-type": "image/png"}


def test_the_metrics_of_all_workers_are_added_up(address, speckle) -> None:
    def increase(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    before = read_samples(address)
    for _ in range(10):
        # A new connection each time, so that both workers get some.
        httpx.post(f"{address}/overlay", content=encode_png(speckle(3)), headers=PNG, timeout=60)
        httpx.post(f"{address}/overlay", content=b"nothing", headers=PNG, timeout=60)
        httpx.get(f"{address}/a/path/of/theirs", timeout=60)
    after = read_samples(address)
    assert increase('nervemask_requests_total{route="/overlay",status="200"}') == 10
    assert increase('nervemask_requests_total{route="/overlay",status="415"}') == 10
    assert increase('nervemask_requests_total{route="other",status="404"}') == 10
    assert increase('nervemask_frames_total{present="true"}') == 10
    assert increase('nervemask_errors_total{code="unknown_type"}') == 10
    assert increase("nervemask_presence_count") == increase("nervemask_confidence_count") == 10
    for step in ("decode", "network", "answer"):
        assert increase(f'nervemask_step_duration_seconds_count{{step="{step}"}}') == 10
    assert increase("nervemask_frame_pixels_sum") == 10 * 420 * 580
    assert increase('nervemask_request_duration_seconds_count{route="/overlay"}') == 20
    assert (after["nervemask_requests_running"], after["nervemask_requests_queued"]) == (0, 0)
    assert not [name for name in after if "theirs" in name or name.startswith("bentoml")]


def test_the_deployed_model_is_a_metric(address, card) -> None:
    labels = f'{{name="{card.name}",run_id="{card.run_id}",version="{card.version}"}}'
    assert read_samples(address)["nervemask_model_info" + labels] == 1
