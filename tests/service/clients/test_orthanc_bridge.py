"""The bridge between a real Orthanc and the real service: each ultrasound instance gets one segmentation."""

import logging
import re
import threading
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, SegmentationStorage, generate_uid

from service.clients.bridge_http_client import BridgeHttpClient
from service.clients.orthanc_bridge import OrthancBridge
from service.decoding.dicom.header_checks import ULTRASOUND_CLASSES
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.clients.orthanc_server import PASSWORD, USER, Orthanc, make_frame, run_bridge_once, wait_until

pytestmark = pytest.mark.server

EXAMPLE_FRAMES = {"examples_ybr_color.dcm": 30, "examples_rgb_color.dcm": 1, "examples_palette.dcm": 1}
STUDY = generate_uid()


def example_path(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def referenced_uid(segmentation: Dataset) -> str:
    """Return the one UID that all frames of a segmentation refer to."""
    groups = segmentation.PerFrameFunctionalGroupsSequence
    (uid,) = {
        image.ReferencedSOPInstanceUID
        for group in groups
        for image in group.DerivationImageSequence[0].SourceImageSequence
    }
    return str(uid)


def test_each_ultrasound_instance_and_no_other_gets_a_segmentation(orthanc, address, tmp_path) -> None:
    study = {"StudyInstanceUID": generate_uid()}
    capture = make_frame(**study, SOPClassUID=SecondaryCaptureImageStorage)
    not_ultrasound = [
        make_frame(**study, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT"),
        make_frame(**study, SOPClassUID=CTImageStorage),
    ]
    examples = [*map(example_path, EXAMPLE_FRAMES), example_path("CT_small.dcm")]
    orthanc.send(*examples, make_frame(**study), capture, *not_ultrasound)
    sources = {dataset.SOPInstanceUID: dataset for dataset in orthanc.instances()}
    ultrasound_uids = {uid for uid, dataset in sources.items() if dataset.SOPClassUID in ULTRASOUND_CLASSES}
    completed = run_bridge_once(orthanc.address, address, tmp_path / "state")
    assert completed.returncode == 0, completed.stderr

    segmentations = {referenced_uid(dataset): dataset for dataset in orthanc.segmentations()}
    assert set(segmentations) == ultrasound_uids | {capture.SOPInstanceUID}
    assert len(orthanc.segmentations()) == len(segmentations) == 5
    for uid, segmentation in segmentations.items():
        source = sources[uid]
        assert segmentation.study == source.study
        assert segmentation.PatientID == source.PatientID
        assert segmentation.NumberOfFrames == source.get("NumberOfFrames", 1)
        assert segmentation.pixel_array.shape[-2:] == (source.Rows, source.Columns)
    assert {int(dataset.NumberOfFrames) for dataset in segmentations.values()} == set(EXAMPLE_FRAMES.values())

    log = completed.stderr
    assert log.count("segmented, ") == 5
    assert log.count("not an ultrasound image") == 1  # the CT class in a series of modality US
    assert "skipped (the service" not in log  # the service got no unusable instance
    assert_log_names_no_patient(log, sources.values())


def assert_log_names_no_patient(log: str, datasets) -> None:
    without_times = re.sub(r"(?m)^\S+ \S+ ", "", log)  # a patient's ID may look like a part of a time
    for dataset in datasets:
        identifiers = (dataset.PatientID, str(dataset.PatientName), dataset.SOPInstanceUID, dataset.StudyInstanceUID)
        for identifier in filter(None, identifiers):
            assert not re.search(rf"(?<!\w){re.escape(identifier)}(?!\w)", without_times)
    assert PASSWORD not in log


def test_no_instance_is_segmented_twice(orthanc, bridge_once, tmp_path) -> None:
    """Not when the segmentation makes its study stable again, not without the state file, not for a new instance."""
    study = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    orthanc.send(make_frame(**study))
    assert bridge_once().count("segmented, ") == 1
    wait_until(lambda: orthanc.stable_study_changes() == 2)
    log = bridge_once()
    assert "segmented, " not in log
    assert "already segmented" in log
    assert "another UID" not in log  # the service got no request
    assert "instance" not in bridge_once()  # the position is saved

    (tmp_path / "state").unlink()
    assert bridge_once().count("already segmented") == 1
    orthanc.send(make_frame(**study))
    assert bridge_once().count("segmented, ") == 1
    assert len(orthanc.segmentations()) == 2
    assert sum(change["ChangeType"] == "NewInstance" for change in orthanc.changes()) == 4


def test_an_unusable_instance_is_skipped(orthanc, bridge_once) -> None:
    study = {"StudyInstanceUID": generate_uid()}
    orthanc.send(make_ultrasound(np.zeros((15, 15), np.uint8), **study), make_frame(**study))
    assert "skipped (the service: status 422 too_small)" in bridge_once()
    assert len(orthanc.segmentations()) == 1


def test_a_study_that_is_sent_again_for_another_patient_gets_its_own_segmentation(orthanc, bridge_once) -> None:
    frame = make_frame()
    orthanc.send(frame)
    bridge_once()
    frame.PatientID = "corrected"
    orthanc.send(frame)
    bridge_once()
    assert {dataset.PatientID for dataset in orthanc.segmentations()} == {"4711", "corrected"}


def test_user_and_password_come_from_the_url_or_the_environment(orthanc, address, tmp_path) -> None:
    url, state_file = orthanc.address_without_user, tmp_path / "state"
    refused = run_bridge_once(url, address, state_file)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"bridge: Orthanc is unavailable ({url}: status 401), try again later"
    assert run_bridge_once(orthanc.address, address, state_file).returncode == 0
    accepted = run_bridge_once(url, address, state_file, ORTHANC_USER=USER, ORTHANC_PASSWORD=PASSWORD)
    assert accepted.returncode == 0, accepted.stderr


def test_a_new_orthanc_database_is_read_from_its_start(orthanc, bridge_once, tmp_path) -> None:
    (tmp_path / "state").write_text("1000000\n")
    orthanc.send(make_frame())
    assert "all are read again" in bridge_once()
    assert len(orthanc.segmentations()) == 1


def test_a_file_that_holds_no_position_is_not_overwritten(orthanc, address, tmp_path) -> None:
    (tmp_path / "state").write_text("my thesis")
    completed = run_bridge_once(orthanc.address, address, tmp_path / "state")
    assert completed.returncode == 1
    assert "holds no position" in completed.stderr
    assert (tmp_path / "state").read_text() == "my thesis"


def bridge_with_stub_service(orthanc: Orthanc, before_response: Callable[[], object]) -> OrthancBridge:
    """A bridge to a service that always returns the same segmentation, after it has called `before_response`."""
    segmentation = to_bytes(make_frame(SOPClassUID=SegmentationStorage, Modality="SEG", StudyInstanceUID=STUDY))

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/model":
            return httpx.Response(200, stream=httpx.ByteStream(b'{"run_id": "a"}'))
        before_response()
        return httpx.Response(200, stream=httpx.ByteStream(segmentation))

    stop = threading.Event()
    service = BridgeHttpClient("the service", httpx.URL("http://service"), None, stop, once=False)
    service.client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(respond))
    orthanc.send(make_frame(StudyInstanceUID=STUDY))
    return OrthancBridge(BridgeHttpClient("Orthanc", httpx.URL(orthanc.address), None, stop, once=False), service)


def test_a_study_that_is_deleted_during_segmentation_stays_deleted(orthanc) -> None:
    bridge = bridge_with_stub_service(orthanc, lambda: orthanc.client.delete(f"/studies/{study_id}"))
    (study_id,) = orthanc.get("/studies")
    for _ in range(2):  # the second time, the study does not exist from the start
        bridge.segment_study(study_id)
        assert orthanc.get("/instances") == []


def test_a_service_with_other_uids_causes_no_endless_loop(orthanc, caplog) -> None:
    bridge = bridge_with_stub_service(orthanc, lambda: None)
    (study_id,) = orthanc.get("/studies")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            bridge.segment_study(study_id)
    assert caplog.text.count("segmented, ") == 1
    assert caplog.text.count("another UID") == 1
    assert sum(change["ChangeType"] == "NewInstance" for change in orthanc.changes()) == 2
