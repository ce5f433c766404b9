"""The bridge with a hostile Orthanc or service: it names the server and the reason, and stores nothing."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage, generate_uid

from service.clients import bounded_network, bridge_http_client
from service.clients.bridge_http_client import BridgeHttpClient, StopBridgeError
from service.clients.orthanc_bridge import OrthancBridge
from service.decoding.dicom.header_checks import ULTRASOUND_CLASSES
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.clients.hostile_server import HostileServer, Reply, endless, hostile_server, http
from tests.service.clients.orthanc_server import run_bridge_once
from tests.service.clients.test_hostile_service import CHUNK, ESCAPES, JSON_HEAD, assert_safe

pytestmark = pytest.mark.slow  # many real servers

MIB = 2**20
STUDY_UID, OTHER_STUDY_UID = generate_uid(), generate_uid()
ID = "-".join(["0123abcd"] * 5)
PIXELS = np.zeros((40, 48), np.uint8)


def dicom(**attributes: object) -> bytes:
    return to_bytes(make_ultrasound(PIXELS, **{"StudyInstanceUID": STUDY_UID} | attributes))


def deflated(**attributes: object) -> bytes:
    dataset = make_ultrasound(PIXELS, **attributes)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return to_bytes(dataset)


def as_json(value: object) -> bytes:
    return http(json.dumps(value).encode())


INSTANCE = {"ID": ID, "ParentSeries": ID, "MainDicomTags": {"SOPInstanceUID": "1.2.3"}}
ORTHANC: dict[str, Reply] = {
    "GET /changes?last": as_json({"Last": 1}),
    "GET /changes?since": as_json({"Changes": [{"ID": ID, "ChangeType": "NewInstance"}], "Last": 1, "Done": True}),
    "POST /tools/bulk-content": as_json([{"ID": ID, "IsStable": True}]),
    f"GET /studies/{ID}/instances": as_json([INSTANCE]),
    f"GET /studies/{ID}/series": as_json([{"ID": ID, "MainDicomTags": {"Modality": "US"}}]),
    f"GET /instances/{ID}": as_json(INSTANCE),
    f"GET /instances/{ID}/metadata": as_json({"SopClassUid": min(ULTRASOUND_CLASSES)}),
    f"GET /instances/{ID}/file": http(dicom(), "application/dicom"),
    "POST /instances": as_json({"ID": ID, "Status": "Success"}),
}
SEGMENTATION = dicom(SOPClassUID=SegmentationStorage, Modality="SEG")
SERVICE: dict[str, Reply] = {
    "GET /model": as_json({"run_id": "r"}),
    "POST /dicom": http(SEGMENTATION, "application/dicom"),
}


@pytest.fixture(autouse=True)
def no_delay_and_small_limits(monkeypatch) -> None:
    monkeypatch.setattr(bridge_http_client, "backoff_seconds", lambda attempt: 0)
    monkeypatch.setattr(bridge_http_client, "MAX_FILE_BYTES", MIB)
    monkeypatch.setattr(bounded_network, "MAX_RESPONSE_BYTES", 2 * MIB)


Servers = tuple[HostileServer, HostileServer, OrthancBridge]


@pytest.fixture
def bridged() -> Iterator[Callable[..., Servers]]:
    """bridged(orthanc, service): two servers with these replies beside the usual ones, and a bridge between them."""
    with hostile_server(dict(ORTHANC)) as orthanc, hostile_server(dict(SERVICE)) as service:

        def connect(orthanc_replies: dict[str, Reply], service_replies: dict[str, Reply]) -> Servers:
            orthanc.replies.update(orthanc_replies)
            service.replies.update(service_replies)
            stop = threading.Event()
            bridge = OrthancBridge(
                BridgeHttpClient("Orthanc", httpx.URL(orthanc.address), None, stop, once=True),
                BridgeHttpClient("the service", httpx.URL(service.address), None, stop, once=True),
            )
            return orthanc, service, bridge

        yield connect


def stored(orthanc: HostileServer) -> bool:
    return any(request.startswith(b"POST /instances ") for request in orthanc.requests)


def test_the_usual_replies_give_a_stored_segmentation(bridged, tmp_path, caplog) -> None:
    orthanc, _, bridge = bridged({}, {})
    with caplog.at_level(logging.INFO, "nervemask.bridge"):
        bridge.run(tmp_path / "state", once=True)
    assert f"instance {ID}: segmented, {ID} (Success)" in caplog.text
    assert stored(orthanc)


NOT_HTTP: dict[str, Reply] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"x: a\r\n" * 9000),
    "body without end": endless(JSON_HEAD, CHUNK),
    "informational responses without end": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}
UNEXPECTED_JSON: dict[str, Reply] = {
    "nested": http(b"[" * 100_000),
    "number": http(b"7"),
    "strings": as_json(["x"]),
    "objects": as_json([{}]),
    "other types": as_json({"Last": "1", "Changes": 7, "Done": 1, "ID": 4, "run_id": None, "SopClassUid": 4}),
    "not finite": http(b'{"Last": Infinity, "Changes": [], "Done": true, "run_id": NaN, "SopClassUid": NaN}'),
    "a path for an identifier": as_json([INSTANCE | {"ID": "../../system\x1b[2J", "IsStable": True}]),
}
LISTINGS = [
    *("GET /changes?last", "GET /changes?since", "POST /tools/bulk-content"),
    *(f"GET /studies/{ID}/instances", f"GET /studies/{ID}/series", f"GET /instances/{ID}/metadata", "POST /instances"),
]


CASES = {f"{listing}, {name}": (listing, reply) for listing in LISTINGS for name, reply in UNEXPECTED_JSON.items()} | {
    f"{listing}, {name}": (listing, reply)
    for listing in ("GET /changes?last", "GET /model")
    for name, reply in (NOT_HTTP | UNEXPECTED_JSON).items()
}


@pytest.mark.parametrize("case", CASES)
def test_an_unexpected_listing_is_an_unavailable_server(bridged, tmp_path, case) -> None:
    listing, reply = CASES[case]
    of_service = listing == "GET /model"
    orthanc, service, bridge = bridged({} if of_service else {listing: reply}, {listing: reply} if of_service else {})
    name, server = ("the service", service) if of_service else ("Orthanc", orthanc)
    with pytest.raises(StopBridgeError) as stopped:
        bridge.run(tmp_path / "state", once=True)
    assert str(stopped.value).startswith(f"{name} is unavailable ({server.address}: ")


# Responses of the service that the bridge must not store, and the reason in its log.
NO_SEGMENTATION: dict[str, tuple[Reply, str]] = {
    "a page": (http(b"<html>", "text/html"), "is no DICOM Segmentation (ValueError)"),
    "empty": (http(b"", "application/dicom"), "is no DICOM Segmentation"),
    "truncated": (http(SEGMENTATION[:140], "application/dicom"), "is no DICOM Segmentation"),
    "an ultrasound": (http(dicom(), "application/dicom"), "is no DICOM Segmentation (ValueError)"),
    "deflated": (
        http(deflated(SOPClassUID=SegmentationStorage, StudyInstanceUID=STUDY_UID), "application/dicom"),
        "is no DICOM Segmentation (ValueError)",
    ),
    "of another study": (
        http(dicom(SOPClassUID=SegmentationStorage, StudyInstanceUID=OTHER_STUDY_UID), "application/dicom"),
        "is a segmentation of another study",
    ),
    "without end": (endless(JSON_HEAD, CHUNK), "sends a response of more than 1048576 bytes"),
    "escapes in the error's code": (
        http(json.dumps({"error": {"code": ESCAPES, "message": "m"}}).encode(), status="422 Unprocessable Content"),
        "status 422",
    ),
}


@pytest.mark.parametrize("name", NO_SEGMENTATION)
def test_a_response_that_is_no_segmentation_of_the_study_is_not_stored(bridged, tmp_path, caplog, name) -> None:
    reply, reason = NO_SEGMENTATION[name]
    orthanc, _, bridge = bridged({}, {"POST /dicom": reply})
    with caplog.at_level(logging.INFO, "nervemask.bridge"):
        bridge.run(tmp_path / "state", once=True)
    *_, warning = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(f"instance {ID}: skipped (") and reason in warning
    assert not stored(orthanc)


def test_a_file_of_orthanc_without_end_is_skipped(bridged, tmp_path, caplog) -> None:
    orthanc, service, bridge = bridged({f"GET /instances/{ID}/file": endless(JSON_HEAD, CHUNK)}, {})
    bridge.run(tmp_path / "state", once=True)
    assert f"instance {ID}: skipped (Orthanc: {orthanc.address}" in caplog.text
    assert not any(request.startswith(b"POST /dicom") for request in service.requests)


def test_changes_that_never_end_do_not_keep_the_bridge_busy(bridged, tmp_path) -> None:
    _, _, bridge = bridged({"GET /changes?since": as_json({"Changes": [], "Last": 0, "Done": False})}, {})
    bridge.run(tmp_path / "state", once=True)


@pytest.mark.parametrize("hostile", ["Orthanc", "the service"])
def test_the_bridge_prints_escapes_as_text(tmp_path: Path, hostile) -> None:
    error = http(json.dumps({"error": {"code": ESCAPES, "message": ESCAPES}}).encode(), status="403 \x1b[2J")
    modality = as_json([{"ID": ID, "MainDicomTags": {"Modality": ESCAPES}}])
    orthanc_replies = {"GET /changes?last": error} if hostile == "Orthanc" else {f"GET /studies/{ID}/series": modality}
    service_replies = {"GET /model": error} if hostile == "the service" else {}
    for replies in ({}, service_replies):
        with hostile_server(ORTHANC | orthanc_replies) as orthanc, hostile_server(SERVICE | replies) as service:
            completed = run_bridge_once(orthanc.address, service.address, tmp_path / "state")
        assert_safe(completed.stdout + completed.stderr)
        assert r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e" in completed.stderr
        (tmp_path / "state").unlink(missing_ok=True)


@pytest.mark.parametrize("server", ["Orthanc", "the service"])
def test_a_redirect_is_not_followed_with_the_password_or_key(tmp_path: Path, server) -> None:
    with hostile_server({"": as_json({"run_id": "r", "Last": 1})}) as other:
        redirect = http(b"", "text/plain", "307 Temporary Redirect", f"location: {other.address}/model")
        orthanc_replies = ORTHANC | ({"GET /changes?last": redirect} if server == "Orthanc" else {})
        service_replies = SERVICE | ({"GET /model": redirect} if server == "the service" else {})
        with hostile_server(orthanc_replies) as orthanc, hostile_server(service_replies) as service:
            variables = {"NERVEMASK_KEY": "secret", "ORTHANC_USER": "user", "ORTHANC_PASSWORD": "password"}
            completed = run_bridge_once(orthanc.address, service.address, tmp_path / "state", **variables)
    assert completed.returncode == 1 and "status 307" in completed.stderr.splitlines()[-1]
    assert other.requests == []
