"""Who is asked: this service, the lecture's way behind a minimal web app, and MLflow's own server; and the network in
a process with nothing around it, which is the ceiling."""

import io
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import request
from benchmarks.uploads import Upload
from service.card import Card, champion_folder
from service.cine import open_cine
from service.frame import Frame
from service.tensor import to_tensor

READY_SECONDS = 120
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Contender:
    """A server: its command for a port, the route that says it is ready, and a request for a file of a kind."""

    name: str
    command: Callable[[int], list[str]]
    ready: str
    asks: Callable[[str, bytes], str]


@dataclass(frozen=True)
class Started:
    """A contender that listens. ready_seconds: from its start until it said so."""

    contender: Contender
    port: int
    process: psutil.Process
    ready_seconds: float

    def requests(self, upload: Upload) -> list[str]:
        return [self.contender.asks(upload.kind, file) for file in upload.files]

    def memory_mib(self) -> float:
        """Resident, of the largest of its processes: the one that holds the network."""
        family = [self.process, *self.process.children(recursive=True)]
        return float(max(process.memory_info().rss for process in family) / 2**20)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What /metrics says, by name and labels."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


@contextmanager
def started(contender: Contender, **environment: str) -> Iterator[Started]:
    """The server on a free port, ready; ended with all its processes at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = psutil.Popen(
            contender.command(port),
            stdout=said,
            stderr=said,
            env=os.environ | QUIET | environment,
        )
        try:
            while not _is_ready(f"http://127.0.0.1:{port}{contender.ready}"):
                if process.poll() is not None or time.perf_counter() > start + READY_SECONDS:
                    said.seek(0)
                    sys.exit(f"{contender.name} does not start: {said.read()[-2000:].decode()}")
                time.sleep(0.02)
            yield Started(contender, port, process, time.perf_counter() - start)
        finally:
            family = [process, *process.children(recursive=True)]
            process.terminate()
            _, left = psutil.wait_procs(family, timeout=20)
            for one in left:
                one.kill()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(address).is_success
    except httpx.TransportError:
        return False


def frame_of(file: bytes) -> Frame:
    """The one frame of an upload, read as the service reads it."""
    cine = open_cine(io.BytesIO(file))
    return cine.decode(cine.encoded_at(0), 0)


def _upload(kind: str, file: bytes) -> str:
    return request("/mask", kind, file)


def _tensor(_: str, file: bytes) -> str:
    """MLflow's server takes no pictures: who asks it decodes, stretches and writes JSON. That is not counted here."""
    tensor = to_tensor(frame_of(file), Card.read(champion_folder()).input)
    return request("/invocations", "application/json", json.dumps({"inputs": tensor[np.newaxis].tolist()}).encode())


def _served(port: int) -> list[str]:
    return [sys.executable, "-m", "service", "--port", str(port)]


def _predicted(port: int) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "benchmarks.predict:app", "--port", str(port), "--log-level", "warning"]


def _by_mlflow(port: int) -> list[str]:
    """The champion's run: its model as training logged it."""
    from training import tracking

    tracking.store()
    import mlflow

    outputs = mlflow.get_run(Card.read(champion_folder()).run_id).outputs
    if outputs is None or not outputs.model_outputs:
        sys.exit("the champion's run has no model in this MLflow store: `dvc repro package` makes both")
    os.environ["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()  # the server asks the same store
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    return [*command, "--model-uri", f"models:/{outputs.model_outputs[0].model_id}"]


OURS = Contender("nervemask", _served, "/readyz", _upload)
PREDICT = Contender("model.predict behind ASGI", _predicted, "/readyz", _upload)
MLFLOW = Contender("mlflow models serve", _by_mlflow, "/ping", _tensor)
CONTENDERS = (OURS, PREDICT, MLFLOW)
