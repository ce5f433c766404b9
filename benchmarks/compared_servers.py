"""The compared servers: this service, a plain BentoML service, `model.predict` behind an ASGI app, and MLflow."""

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

from benchmarks.load_generator import encode_request
from benchmarks.sample_uploads import SampleUploads, encode_image
from service.decoding.cine import open_cine
from service.decoding.frame import Frame
from service.inference.preprocessing import preprocess
from service.model.card import Card
from service.model.model_folder import model_folder

MAX_START_SECONDS = 120
TERMINATION_SECONDS = 20
ENVIRONMENT = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Peer:
    """A server to measure.

    command: start command for a port. ready_route: answers with a success status when the server is ready.
    make_request: HTTP request, base64, for a content type and a file.
    """

    name: str
    command: Callable[[int], list[str]]
    ready_route: str
    make_request: Callable[[str, bytes], str]


@dataclass(frozen=True)
class RunningServer:
    """A peer that is ready. ready_seconds: from the start of its process until it was ready."""

    peer: Peer
    port: int
    process: psutil.Process
    ready_seconds: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self, uploads: SampleUploads) -> list[str]:
        return [self.peer.make_request(uploads.content_type, file) for file in uploads.files]

    def memory_mib(self) -> float:
        """Return the resident memory of the largest process: the one with the network."""
        processes = [self.process, *self.process.children(recursive=True)]
        return float(max(process.memory_info().rss for process in processes) / 2**20)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return the Prometheus samples of /metrics by name and labels."""
        text = httpx.get(f"{self.url}/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


@contextmanager
def run_server(peer: Peer, **environment: str) -> Iterator[RunningServer]:
    """Start the server on a free port, wait until it is ready, and end all its processes on exit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryFile() as log_file:
        start = time.perf_counter()
        process = psutil.Popen(
            peer.command(port), stdout=log_file, stderr=log_file, env=os.environ | ENVIRONMENT | environment
        )
        try:
            while not _is_ready(f"http://127.0.0.1:{port}{peer.ready_route}"):
                if process.poll() is not None or time.perf_counter() > start + MAX_START_SECONDS:
                    log_file.seek(0)
                    sys.exit(f"{peer.name} does not start: {log_file.read()[-2000:].decode()}")
                time.sleep(0.02)
            yield RunningServer(peer, port, process, time.perf_counter() - start)
        finally:
            processes = [process, *process.children(recursive=True)]
            process.terminate()
            _, alive = psutil.wait_procs(processes, timeout=TERMINATION_SECONDS)
            for survivor in alive:
                survivor.kill()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def decode_upload(file: bytes) -> Frame:
    """Return the first frame of an upload, decoded as the service decodes it."""
    cine = open_cine(io.BytesIO(file))
    return cine.decode(cine.read_encoded(0), 0)


def _make_mask_request(content_type: str, file: bytes) -> str:
    return encode_request("/mask", content_type, file)


def _make_tensor_request(_: str, file: bytes) -> str:
    """Return a request with the preprocessed frame as JSON.

    MLflow's server does not decode images, so its client must. The measurement does not count that time.
    """
    tensor = preprocess(decode_upload(file), Card.read(model_folder()).input)
    body = json.dumps({"inputs": tensor[np.newaxis].tolist()}).encode()
    return encode_request("/invocations", "application/json", body)


def _nervemask_command(port: int) -> list[str]:
    return [sys.executable, "-m", "service", "--port", str(port)]


def _keras_predict_command(port: int) -> list[str]:
    app = "benchmarks.keras_predict_app:app"
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]


def bentoml_command(service: str) -> Callable[[int], list[str]]:
    """Return the start command of a BentoML service, such as `module:Class`."""
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port"]
    return lambda port: [*command, str(port)]


def _make_form_request(content_type: str, file: bytes) -> str:
    """Return a request with the file in the form field `image`. A DICOM file becomes PNG: Pillow does not read DICOM.

    The measurement does not count that time.
    """
    if content_type == "application/dicom":
        content_type, file = "image/png", encode_image(".png", decode_upload(file).pixels)
    head = (
        f'--x\r\ncontent-disposition: form-data; name="image"; filename="frame"\r\ncontent-type: {content_type}\r\n\r\n'
    )
    return encode_request("/mask", "multipart/form-data; boundary=x", head.encode() + file + b"\r\n--x--\r\n")


def _mlflow_command(port: int) -> list[str]:
    """Return the command that serves the model which training logged to the champion's MLflow run."""
    from training.workspace import tracking

    tracking.use_experiment()
    import mlflow

    outputs = mlflow.get_run(Card.read(model_folder()).run_id).outputs
    if outputs is None or not outputs.model_outputs:
        sys.exit("The champion's run has no model in this MLflow store. `dvc repro package` creates both.")
    os.environ["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()  # the server reads the same store
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    return [*command, "--model-uri", f"models:/{outputs.model_outputs[0].model_id}"]


NERVEMASK = Peer("nervemask", _nervemask_command, "/readyz", _make_mask_request)
PLAIN_BENTOML = Peer(
    "plain BentoML service", bentoml_command("benchmarks.plain_bentoml:PlainService"), "/readyz", _make_form_request
)
KERAS_PREDICT = Peer("model.predict behind ASGI", _keras_predict_command, "/readyz", _make_mask_request)
MLFLOW = Peer("mlflow models serve", _mlflow_command, "/ping", _make_tensor_request)
PEERS = (NERVEMASK, PLAIN_BENTOML, KERAS_PREDICT, MLFLOW)
