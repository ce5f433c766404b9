"""The archive's nodes read object stores and DICOMweb servers with the credentials of the command."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests import frames
from tests.conftest import ROOT
from tests.dicoms import make_ultrasound, to_bytes
from tests.object_store import running_object_store
from tests.service.clients.orthanc_server import PASSWORD, USER, running_orthanc

pytestmark = pytest.mark.server


def digests_and_masks(cluster, model: Path, source: str, out: Path, **credentials: str) -> tuple[list[str], int]:
    """Run the command on the cluster, whose nodes have no credentials; return the digests and the number of masks."""
    command = [sys.executable, "-m", "service.archive", source, "--out", str(out), "--ray", cluster.address]
    environment = os.environ | credentials | {"NERVEMASK_MODEL": str(model), "COLUMNS": "120"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert PASSWORD not in run.stdout + run.stderr
    rows = parquet.read_table(sorted((out / "frames").rglob("part-*.parquet"))).to_pylist()
    assert "Doe" not in str(rows)
    return sorted(row["digest"] for row in rows), len(list((out / "mask").rglob("*.png")))


def test_the_objects_of_a_bucket(cluster, model_folder: Path, tmp_path: Path) -> None:
    pictures = [frames.png(frames.speckle(seed, 60, 80)) for seed in (1, 2)]
    (tmp_path / "s3").mkdir()
    with running_object_store(tmp_path / "s3", ("archive",)) as store:
        for number, picture in enumerate(pictures):
            store.client.put_object(Bucket="archive", Key=f"Doe^Jane/{number}.png", Body=picture)
        found = digests_and_masks(cluster, model_folder, "s3://archive/Doe^Jane", tmp_path / "out", **store.environment)
    assert found == (sorted(hashlib.sha256(picture).hexdigest() for picture in pictures), 2)


def test_the_instances_of_a_dicomweb_server(cluster, model_folder: Path, tmp_path: Path) -> None:
    cine = to_bytes(make_ultrasound(np.stack([frames.speckle(seed, 60, 80) for seed in range(3)])))
    credentials = {"DICOMWEB_USER": USER, "DICOMWEB_PASSWORD": PASSWORD}
    with running_orthanc(tmp_path, dicomweb=True) as orthanc:
        orthanc.client.post("/instances", content=cine).raise_for_status()
        source = f"{orthanc.address_without_user}/dicom-web?Modality=US"
        found = digests_and_masks(cluster, model_folder, source, tmp_path / "out", **credentials)
    assert found == ([hashlib.sha256(cine).hexdigest()] * 3, 3)
