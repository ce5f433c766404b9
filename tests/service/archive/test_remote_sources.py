"""`python -m service.archive` reads an object store and a DICOMweb server from its nodes."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests import frames
from tests.conftest import ROOT
from tests.dicoms import make_ultrasound, to_bytes
from tests.object_store import running_object_store
from tests.service.clients.orthanc_server import DICOMWEB_PLUGIN, PASSWORD, USER, Orthanc

pytestmark = pytest.mark.server


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if not shutil.which("Orthanc") or not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc with DICOMweb is not installed (Debian's packages orthanc and orthanc-dicomweb)")
    (tmp_path / "orthanc").mkdir()
    server = Orthanc(tmp_path / "orthanc", 1)
    server.start()
    yield server
    server.stop()


def test_nodes_get_the_credentials_of_the_command(orthanc: Orthanc, model_folder: Path, tmp_path: Path) -> None:
    """Two pictures of a bucket and a cine of three frames: each frame has a row and a mask."""
    pictures = [frames.png(frames.speckle(seed, 60, 80)) for seed in (1, 2)]
    cine = to_bytes(make_ultrasound(np.stack([frames.speckle(seed, 60, 80) for seed in range(3)])))
    orthanc.client.post("/instances", content=cine).raise_for_status()
    (tmp_path / "s3").mkdir()
    with running_object_store(tmp_path / "s3", ("archive",)) as store:
        for number, picture in enumerate(pictures):
            store.client.put_object(Bucket="archive", Key=f"Doe^Jane/{number}.png", Body=picture)
        sources = ["s3://archive/Doe^Jane", f"{orthanc.address_without_user}/dicom-web?Modality=US"]
        command = [sys.executable, "-m", "service.archive", *sources, "--out", str(tmp_path / "out")]
        environment = store.environment | {"DICOMWEB_USER": USER, "DICOMWEB_PASSWORD": PASSWORD}
        environment |= {"NERVEMASK_MODEL": str(model_folder), "COLUMNS": "120"}
        run = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = parquet.read_table(sorted((tmp_path / "out" / "frames").rglob("part-*.parquet"))).to_pylist()
    digests = [hashlib.sha256(file).hexdigest() for file in (*pictures, cine, cine, cine)]
    assert sorted(row["digest"] for row in rows) == sorted(digests)
    assert len(list((tmp_path / "out" / "mask").rglob("*.png"))) == 5
    assert PASSWORD not in run.stdout + run.stderr
    assert "Doe" not in str(rows)
