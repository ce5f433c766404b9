"""An upload that the disk has no space for gets an error; uploads that fit into memory still work."""

import httpx
import numpy as np
import psutil
import pytest

from service.rendering.images import encode_png
from tests.conftest import serving

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
