"""The bridge loses no instance while the service or Orthanc is unavailable."""

import time

import pytest

from service.clients.orthanc_bridge import POLL_SECONDS
from tests.conftest import free_port
from tests.service.clients.orthanc_server import make_frame, run_bridge_once, running_bridge, wait_until
from tests.service.clients.proxy_server import running_proxy

pytestmark = pytest.mark.server


def test_the_bridge_waits_for_the_service(orthanc, address, tmp_path) -> None:
    port = free_port()
    with running_bridge(orthanc.address, f"http://127.0.0.1:{port}", tmp_path / "state") as read_log:
        wait_until(lambda: "the service is unavailable" in read_log())
        orthanc.send(make_frame())
        with running_proxy(address, port):
            wait_until(lambda: len(orthanc.segmentations()) == 1, 60)
            log = read_log()
    assert log.count("is unavailable") == 1
    assert log.count("is available again") == 1


def test_the_bridge_waits_for_orthanc(orthanc, address, tmp_path) -> None:
    with running_bridge(orthanc.address, address, tmp_path / "state") as read_log:
        wait_until((tmp_path / "state").exists)
        orthanc.stop()
        wait_until(lambda: "Orthanc is unavailable" in read_log())
        orthanc.start()
        orthanc.send(make_frame())
        wait_until(lambda: len(orthanc.segmentations()) == 1)
    assert read_log().count("is unavailable") == 1


@pytest.mark.parametrize("orthanc", [3600], indirect=True, ids=["no study becomes stable"])
def test_an_instance_that_arrives_just_before_orthanc_stops_is_segmented(orthanc, bridge_once) -> None:
    """Orthanc forgets its unstable studies when it stops, and never reports them as stable. The bridge ends too."""
    orthanc.send_without_waiting(make_frame())
    assert "study" not in bridge_once()
    orthanc.stop()
    orthanc.start()
    assert bridge_once().count("segmented, ") == 1
    orthanc.stop()
    orthanc.start()
    assert bridge_once().count("already segmented") == 1  # the stored segmentation is such an instance too
    assert len(orthanc.segmentations()) == 1
    assert orthanc.stable_study_changes() == 0


@pytest.mark.parametrize("orthanc", [6], indirect=True, ids=["stops before a study is stable"])
def test_orthanc_restarts_while_the_bridge_runs(orthanc, address, tmp_path) -> None:
    with running_bridge(orthanc.address, address, tmp_path / "state"):
        wait_until((tmp_path / "state").exists)
        orthanc.send_without_waiting(make_frame())
        orthanc.stop()
        orthanc.start()
        if orthanc.stable_study_changes():
            pytest.skip("the machine is too slow: the study became stable before Orthanc stopped")
        wait_until(lambda: len(orthanc.segmentations()) == 1)
        wait_until(lambda: orthanc.stable_study_changes() == 1)  # the segmentation's change; the bridge reads it
        time.sleep(POLL_SECONDS + 1)
    assert len(orthanc.segmentations()) == 1


def test_sigterm_ends_the_waiting(tmp_path) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    with running_bridge(closed, closed, tmp_path / "state") as read_log:
        wait_until(lambda: "is unavailable" in read_log())
    assert "stopped by a signal" in read_log()


def test_once_does_not_wait(tmp_path) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    completed = run_bridge_once(closed, closed, tmp_path / "state")
    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1].startswith(f"bridge: the service is unavailable ({closed}: ConnectError")
    assert "Traceback" not in completed.stderr
