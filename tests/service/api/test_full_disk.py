"""An upload that the disk has no space for gets an error; uploads that fit into memory still work."""

import io

import cv2
import httpx
import numpy as np
import psutil
import pytest
from pydicom import dcmread, uid

from service.rendering.image_encoding import encode_png
from tests.conftest import serving
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.decoding.format_samples import tiff, video

pytestmark = pytest.mark.server


def test_an_upload_without_disk_space_gets_an_error(model_folder, tmp_path) -> None:
    with (
        serving(model_folder, tmp_path) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        for worker in map(psutil.Process, server.workers()):
            worker.rlimit(psutil.RLIMIT_FSIZE, (2**20, 2**20))  # larger files fail, as on a full disk
        large, small = bytes(20 * 2**20), encode_png(np.zeros((64, 64), np.uint8))
        dicom = {"content-type": "application/dicom"}
        for request in ({"files": {"frame": large}}, {"content": large, "headers": dicom}):
            response = client.post("/mask", **request)
            assert response.status_code == 503, response.text
            assert response.json()["error"]["code"] == "no_room"
            assert response.headers["retry-after"]
        assert client.post("/mask", files={"frame": small}).status_code == 200


def test_a_file_that_is_decoded_on_the_disk_gets_the_same_error(model_folder, tmp_path) -> None:
    """The frames of a video, the pages of a TIFF file, and a deflated DICOM file, of more than a MiB each."""
    frames = np.random.default_rng(0).integers(0, 256, (6, 420, 580), np.uint8)
    files = {
        "video": video(".avi", "MJPG", [cv2.blur(frame, (25, 25)) for frame in frames]),
        "TIFF": tiff(frames, photometric="minisblack"),
        "deflated DICOM": deflated(to_bytes(make_ultrasound(np.zeros_like(frames)))),
    }
    with (
        serving(model_folder, tmp_path) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        for data in files.values():
            response = client.post("/mask?index=0", files={"frame": data})
            assert response.status_code == 200, response.text
        for worker in map(psutil.Process, server.workers()):
            for process in (worker, *worker.children(recursive=True)):
                process.rlimit(psutil.RLIMIT_FSIZE, (2**20, 2**20))
        for name, data in files.items():
            response = client.post("/mask?index=0", files={"frame": data})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "no_room"), name


def deflated(data: bytes) -> bytes:
    """Return an explicit little-endian DICOM file in the deflated transfer syntax (PS3.5 A.5)."""
    dataset = dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    return to_bytes(dataset)
