"""A real Orthanc server for the tests, and the bridge as a process."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from tests.conftest import free_port
from tests.dicoms import make_ultrasound, to_bytes

ROOT = Path(__file__).parents[3]
USER, PASSWORD = "bridge", "s3cret"
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Debian's Orthanc on free ports. It keeps its files and ports when it is stopped and started again."""

    def __init__(self, folder: Path, stable_age_seconds: int):
        self.folder = folder
        self.port = free_port()
        self.dicom_port = free_port()
        self.address_without_user = f"http://127.0.0.1:{self.port}"
        self.address = f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.address, timeout=10)
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "DicomPort": self.dicom_port,
            "StableAge": stable_age_seconds,
            "OverwriteInstances": True,  # an instance that is stored twice is a new change
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(DICOMWEB_PLUGIN)] if DICOMWEB_PLUGIN.exists() else [],
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            command = ["Orthanc", str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_until(self.is_ready)

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
        """Send files as a scanner does, and wait until all studies are stable."""
        before = self.stable_study_changes()
        self.send_without_waiting(*files)
        wait_until(
            lambda: (
                self.stable_study_changes() > before and all(study["IsStable"] for study in self.get("/studies?expand"))
            )
        )

    def send_without_waiting(self, *files: str | Path | Dataset) -> None:
        for number, file in enumerate(files):
            if isinstance(file, Dataset):
                path = self.folder / f"{number}.dcm"
                path.write_bytes(to_bytes(file))
                file = path
            # -xy: send JPEG without decoding it
            command = ["storescu", "-xy", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), str(file)]
            subprocess.run(command, check=True)

    def stable_study_changes(self) -> int:
        """Return how often a study became stable."""
        return sum(change["ChangeType"] == "StableStudy" for change in self.changes())

    def changes(self) -> list[dict[str, Any]]:
        return self.get("/changes?limit=1000")["Changes"]

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def instances(self) -> list[Dataset]:
        """Return all stored instances, each with the ID of its study as the attribute `study`."""
        datasets: list[Dataset] = []
        for instance in self.get("/instances"):
            dataset = dcmread(io.BytesIO(self.client.get(f"/instances/{instance}/file").content))
            dataset.study = self.get(f"/instances/{instance}/study")["ID"]
            datasets.append(dataset)
        return datasets

    def segmentations(self) -> list[Dataset]:
        return [dataset for dataset in self.instances() if dataset.SOPClassUID == SegmentationStorage]


@contextmanager
def running_orthanc(folder: Path, stable_age_seconds: int = 1, dicomweb: bool = False) -> Iterator[Orthanc]:
    """Run Orthanc until the end of the block. Skip the test where it, or its plugin for DICOMweb, is not installed."""
    if not shutil.which("Orthanc"):
        pytest.skip("Orthanc is not installed (Debian's package orthanc)")
    if dicomweb and not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc's plugin is not installed (Debian's package orthanc-dicomweb)")
    server = Orthanc(folder, stable_age_seconds)
    server.start()
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def make_frame(**attributes: Any) -> Dataset:
    """Return a small ultrasound instance with one frame."""
    return make_ultrasound(np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8), **attributes)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition is not true after {seconds} seconds"
        time.sleep(0.1)


def bridge_command(orthanc: str, service: str, state_file: Path) -> list[str]:
    options = ["--orthanc", orthanc, "--service", service, "--state", str(state_file)]
    return [sys.executable, "-m", "service.bridge", *options]


def run_bridge_once(
    orthanc: str, service: str, state_file: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*bridge_command(orthanc, service, state_file), "--once"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def running_bridge(orthanc: str, service: str, state_file: Path) -> Iterator[Callable[[], str]]:
    """Run the bridge as a process; yield a function that returns its log. It must end soon after SIGTERM."""
    log_file = state_file.with_name("bridge.log")
    with log_file.open("wb") as log:
        command = bridge_command(orthanc, service, state_file)
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield log_file.read_text
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            return_code = process.wait(10)
        finally:
            process.kill()
    assert return_code == 0, log_file.read_text()
    assert "Traceback" not in log_file.read_text()
