"""The bridge between a real Orthanc and the real service: each ultrasound gets its mask once, whoever is away."""

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, SegmentationStorage, generate_uid

from service import bridge
from service.dicom.cine import ULTRASOUND
from tests.conftest import free_port, start, wait_until_ready
from tests.dicoms import ultrasound, written

ROOT = Path(__file__).parent.parent
EXAMPLES = {"examples_ybr_color.dcm": 30, "examples_rgb_color.dcm": 1, "examples_palette.dcm": 1}  # frames of each
STUDY = generate_uid()
USER, PASSWORD = "bridge", "s3cret"


class Orthanc:
    """Debian's Orthanc on free ports. It keeps its files, and its ports, when it is stopped and started again."""

    def __init__(self, folder: Path, rest_seconds: int):
        self.folder, self.port, self.dicom_port = folder, free_port(), free_port()
        self.bare = f"http://127.0.0.1:{self.port}"
        self.address = f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.address, timeout=10)
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "DicomPort": self.dicom_port,
            "StableAge": rest_seconds,
            "OverwriteInstances": True,  # what is stored twice makes a new change
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as said:
            command = ["Orthanc", str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        until(self.is_ready)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()
        try:
            return self.client.get("/system").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def send(self, *files: str | Path | Dataset) -> None:
        """As a scanner would; comes back when all studies are at rest."""
        before = self.at_rest()
        self.take(*files)
        until(lambda: self.at_rest() > before and all(study["IsStable"] for study in self.get("/studies?expand")))

    def take(self, *files: str | Path | Dataset) -> None:
        """As a scanner would; comes back at once."""
        for number, file in enumerate(files):
            if isinstance(file, Dataset):
                path = self.folder / f"{number}.dcm"
                path.write_bytes(written(file))
                file = path
            # -xy: JPEG is sent as it is
            command = ["storescu", "-xy", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), str(file)]
            subprocess.run(command, check=True)

    def at_rest(self) -> int:
        """How often a study came to rest."""
        return sum(change["ChangeType"] == "StableStudy" for change in self.changes())

    def changes(self) -> list[dict[str, Any]]:
        return self.get("/changes?limit=1000")["Changes"]

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def files(self) -> list[Dataset]:
        """All that it holds, read back."""
        found = []
        for instance in self.get("/instances"):
            file = dcmread(io.BytesIO(self.client.get(f"/instances/{instance}/file").content))
            file.study = self.get(f"/instances/{instance}/study")["ID"]
            found.append(file)
        return found

    def segmentations(self) -> list[Dataset]:
        return [file for file in self.files() if file.SOPClassUID == SegmentationStorage]


@pytest.fixture
def orthanc(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Orthanc]:
    """param: after how many seconds a study is at rest; 1 without."""
    for tool, package in (("Orthanc", "orthanc"), ("storescu", "dcmtk")):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (Debian's package {package})")
    made = Orthanc(tmp_path, getattr(request, "param", 1))
    made.start()
    yield made
    made.process.kill()
    made.process.wait()


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.1)


@pytest.fixture
def once(orthanc: Orthanc, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """once(): what the bridge says while it works through what is there."""
    stop = threading.Event()
    servers = (
        bridge.Server("Orthanc", httpx.URL(orthanc.address), None, stop, True),
        bridge.Server("the service", httpx.URL(address), None, stop, True),
    )

    def work_through() -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "nervemask.bridge"):
            bridge.follow(*servers, tmp_path / "state", True)
        return caplog.text

    return work_through


def command(orthanc: str, service: str, state: Path) -> list[str]:
    options = ["--orthanc", orthanc, "--service", service, "--state", str(state)]
    return [sys.executable, "-m", "service.bridge", *options]


def command_once(orthanc: str, service: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(orthanc, service, state), "--once"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def running(orthanc: str, service: str, state: Path) -> Iterator[Callable[[], str]]:
    """The bridge in the background, and what it has said; told to end afterwards, it does so within seconds."""
    log = state.with_name("bridge.log")
    with log.open("wb") as said:
        process = subprocess.Popen(command(orthanc, service, state), cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield log.read_text
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            ended = process.wait(10)
        finally:
            process.kill()
    assert ended == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def example(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def frame(**attributes: Any) -> Dataset:
    return ultrasound(np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8), **attributes)


def source_of(segmentation: Dataset) -> str:
    """The one UID that all its frames refer to."""
    groups = segmentation.PerFrameFunctionalGroupsSequence
    (uid,) = {
        image.ReferencedSOPInstanceUID
        for group in groups
        for image in group.DerivationImageSequence[0].SourceImageSequence
    }
    return str(uid)


def test_each_ultrasound_gets_its_segmentation_and_nothing_else_does(orthanc, address, tmp_path) -> None:
    study = {"StudyInstanceUID": generate_uid()}
    capture = frame(**study, SOPClassUID=SecondaryCaptureImageStorage)
    others = [
        frame(**study, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT"),
        frame(**study, SOPClassUID=CTImageStorage),
    ]
    orthanc.send(*map(example, EXAMPLES), example("CT_small.dcm"), frame(**study), capture, *others)
    sources = {file.SOPInstanceUID: file for file in orthanc.files()}
    used = {uid for uid, file in sources.items() if file.SOPClassUID in ULTRASOUND} | {capture.SOPInstanceUID}
    done = command_once(orthanc.address, address, tmp_path / "state")
    assert done.returncode == 0, done.stderr

    made = {source_of(file): file for file in orthanc.segmentations()}
    assert set(made) == used
    assert len(orthanc.segmentations()) == len(made) == 5
    for uid, segmentation in made.items():
        source = sources[uid]
        assert segmentation.study == source.study
        assert segmentation.PatientID == source.PatientID
        assert segmentation.NumberOfFrames == source.get("NumberOfFrames", 1)
        assert segmentation.pixel_array.shape[-2:] == (source.Rows, source.Columns)
    assert {int(file.NumberOfFrames) for file in made.values()} == set(EXAMPLES.values())

    told = done.stderr
    assert told.count("segmented, ") == 5
    assert told.count("no ultrasound") == 1  # what is said to be one; of another modality none is looked at
    assert "left alone" not in told  # the service was asked about none
    words = re.sub(r"(?m)^\S+ \S+ ", "", told)  # without the times, whose figures may be any patient's
    for source in sources.values():  # nothing that tells of a patient
        for secret in (source.PatientID, str(source.PatientName), source.SOPInstanceUID, source.StudyInstanceUID):
            assert not secret or not re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", words)
    assert PASSWORD not in told


def test_nothing_is_made_twice(orthanc, once, tmp_path) -> None:
    """When its storing brings the study to rest anew, when the position is lost, when an instance is added."""
    study = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    orthanc.send(frame(**study))
    assert once().count("segmented, ") == 1
    until(lambda: orthanc.at_rest() == 2)
    again = once()
    assert "segmented, " not in again
    assert "has its segmentation" in again
    assert "another UID" not in again  # the service was not asked
    assert "instance" not in once()  # the position was kept

    (tmp_path / "state").unlink()
    assert once().count("has its segmentation") == 1
    orthanc.send(frame(**study))
    assert once().count("segmented, ") == 1
    assert len(orthanc.segmentations()) == 2
    assert sum(change["ChangeType"] == "NewInstance" for change in orthanc.changes()) == 4


def test_an_unusable_instance_does_not_stand_in_the_way(orthanc, once) -> None:
    study = {"StudyInstanceUID": generate_uid()}
    orthanc.send(ultrasound(np.zeros((15, 15), np.uint8), **study), frame(**study))
    assert "left alone (the service: status 422 too_small)" in once()
    assert len(orthanc.segmentations()) == 1


def test_a_study_sent_again_for_another_patient_gets_its_own(orthanc, once) -> None:
    taken = frame()
    orthanc.send(taken)
    once()
    taken.PatientID = "corrected"
    orthanc.send(taken)
    once()
    assert {file.PatientID for file in orthanc.segmentations()} == {"4711", "corrected"}


def test_while_the_service_is_down_nothing_is_lost(orthanc, model_folder, tmp_path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(orthanc.address, address, tmp_path / "state") as said:
        until(lambda: "the service is not to be had" in said())
        orthanc.send(frame())
        with (tmp_path / "service.log").open("wb") as log:
            service = start(model_folder, port, log)
        try:
            wait_until_ready(address, service)
            until(lambda: len(orthanc.segmentations()) == 1, 45)
        finally:
            service.terminate()
            service.wait(30)
    assert said().count("not to be had") == 1
    assert said().count("answers again") == 1


def test_while_orthanc_is_away_nothing_is_lost(orthanc, address, tmp_path) -> None:
    with running(orthanc.address, address, tmp_path / "state") as said:
        until(lambda: (tmp_path / "state").exists())
        orthanc.stop()
        until(lambda: "Orthanc is not to be had" in said())
        orthanc.start()
        orthanc.send(frame())
        until(lambda: len(orthanc.segmentations()) == 1)
    assert said().count("not to be had") == 1


@pytest.mark.parametrize("orthanc", [3600], indirect=True, ids=["it comes to no rest"])
def test_what_came_just_before_orthanc_was_stopped_is_not_lost(orthanc, once) -> None:
    """Orthanc forgets then what was not at rest, and never tells that it is; nor need the bridge run all the while."""
    orthanc.take(frame())
    assert "study" not in once()
    orthanc.stop()
    orthanc.start()
    assert once().count("segmented, ") == 1
    orthanc.stop()
    orthanc.start()
    assert once().count("has its segmentation") == 1  # for the segmentation came, and that again without a rest
    assert len(orthanc.segmentations()) == 1
    assert orthanc.at_rest() == 0


@pytest.mark.parametrize("orthanc", [6], indirect=True, ids=["time to stop it"])
def test_orthanc_is_stopped_under_a_running_bridge(orthanc, address, tmp_path) -> None:
    with running(orthanc.address, address, tmp_path / "state"):
        until(lambda: (tmp_path / "state").exists())
        orthanc.take(frame())
        orthanc.stop()
        orthanc.start()
        assert orthanc.at_rest() == 0
        until(lambda: len(orthanc.segmentations()) == 1)
        until(lambda: orthanc.at_rest() == 1)  # by the segmentation, which is looked at again
        time.sleep(bridge.POLL_SECONDS + 1)
    assert len(orthanc.segmentations()) == 1


def test_a_new_database_is_read_from_its_start(orthanc, once, tmp_path) -> None:
    (tmp_path / "state").write_text("1000000\n")
    orthanc.send(frame())
    assert "read anew" in once()
    assert len(orthanc.segmentations()) == 1


def test_a_password_is_taken_from_the_address_or_the_environment(orthanc, address, tmp_path) -> None:
    wrong = command_once(orthanc.bare, address, tmp_path / "state")
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1] == "bridge: Orthanc is not to be had (status 401), try again later"
    assert command_once(orthanc.address, address, tmp_path / "state").returncode == 0
    right = command_once(orthanc.bare, address, tmp_path / "state", ORTHANC_USER=USER, ORTHANC_PASSWORD=PASSWORD)
    assert right.returncode == 0, right.stderr


def test_sigterm_ends_the_waiting(tmp_path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with running(nobody, nobody, tmp_path / "state") as said:
        until(lambda: "not to be had" in said())
    assert "told to stop" in said()


def test_once_does_not_wait(tmp_path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    done = command_once(nobody, nobody, tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("bridge: the service is not to be had (ConnectError")
    assert "Traceback" not in done.stderr


def test_a_file_that_holds_no_position_is_left_as_it_is(orthanc, address, tmp_path) -> None:
    (tmp_path / "state").write_text("my thesis")
    done = command_once(orthanc.address, address, tmp_path / "state")
    assert done.returncode == 1
    assert "holds no position" in done.stderr
    assert (tmp_path / "state").read_text() == "my thesis"


# A service that does what the real one does not on demand.


def server(answer: Callable[[httpx.Request], httpx.Response], once: bool = False) -> bridge.Server:
    made = bridge.Server("the service", httpx.URL("http://service"), None, threading.Event(), once)
    made.client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    return made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PAUSES_SECONDS", (0,) * 5)
    monkeypatch.setattr(bridge, "LONGEST_PAUSE_SECONDS", 0)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_service_is_asked_until_it_answers(hasty, caplog, status) -> None:
    answers = iter([httpx.Response(status)] * 20 + [httpx.Response(200, json={"run_id": "a"})])
    with caplog.at_level(logging.INFO):
        assert bridge.run_of(server(lambda request: next(answers))) == "a"
    assert [record.levelname for record in caplog.records if "nervemask" in record.name] == ["WARNING", "INFO"]


@pytest.mark.parametrize("status", [500, 504, None])
def test_an_instance_that_breaks_the_service_is_given_up(hasty, status) -> None:
    """None: the connection broke off."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.read())
        if status is None:
            raise httpx.ReadError("broken off")
        return httpx.Response(status)

    for once in (True, False):
        asked.clear()
        with pytest.raises(bridge.RefusedError):
            server(answer, once).ask("POST", "/dicom", body=io.BytesIO(b"the file"), tries=bridge.TRIES)
        assert asked == [b"the file"] * bridge.TRIES


def stub(orthanc: Orthanc, meanwhile: Callable[[], object]) -> tuple[bridge.Server, bridge.Server]:
    """The real Orthanc, and a service that answers one object of its own, after something else has happened."""
    same = written(frame(SOPClassUID=SegmentationStorage, Modality="SEG", StudyInstanceUID=STUDY))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/model":
            return httpx.Response(200, json={"run_id": "a"})
        meanwhile()
        return httpx.Response(200, content=same)

    orthanc.send(frame(StudyInstanceUID=STUDY))
    return bridge.Server("Orthanc", httpx.URL(orthanc.address), None, threading.Event(), False), server(answer)


def test_what_is_deleted_meanwhile_stays_deleted(orthanc) -> None:
    servers = stub(orthanc, lambda: orthanc.client.delete(f"/studies/{study}"))
    (study,) = orthanc.get("/studies")
    for _ in range(2):  # the second time it is gone from the start
        bridge.segment_study(study, *servers)
        assert orthanc.get("/instances") == []


def test_a_service_that_makes_other_uids_makes_no_endless_round(orthanc, caplog) -> None:
    servers = stub(orthanc, lambda: None)
    (study,) = orthanc.get("/studies")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            bridge.segment_study(study, *servers)
    assert caplog.text.count("segmented, ") == 1
    assert caplog.text.count("another UID") == 1
    assert sum(change["ChangeType"] == "NewInstance" for change in orthanc.changes()) == 2
