"""Send many files to a running service and write its responses to files."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress

from service.clients.api_key_header import api_key_header
from service.clients.console_report import ConsoleReport
from service.clients.http_connection import ProxySettingsError, open_http_client
from service.clients.output_files import ClientError, OutputFiles, OutputKind, atomic_file, cine_output
from service.clients.retries import BUSY_STATUSES, MAX_BATCH_ATTEMPTS, retry_after_seconds

JSON_LINES_TYPE = "application/jsonl"
# The service closes a connection after five idle seconds; this client closes it earlier, so that it never sends a
# request on a connection that is just being closed.
KEEPALIVE_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 600.0  # without a byte; /dicom sends the response to a long cine only at its end


def segment_files(server: str, kind: OutputKind, files: OutputFiles, max_in_flight: int) -> int:
    """Send all files to the service and write the outputs; return the number of frames and whole files that failed.

    server: the address of the service.
    kind: the kind of output.
    files: the input files and their outputs.
    max_in_flight: number of files that are sent at the same time.

    Raises ClientError if the service cannot be reached.
    """
    timeout = httpx.Timeout(READ_TIMEOUT_SECONDS, pool=None)
    limits = httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS)
    try:
        with open_http_client(server, headers=api_key_header(), timeout=timeout, limits=limits) as client:
            report = ConsoleReport(_model_warnings(client, server))
            for path, reason in files.unusable_inputs:
                report.print_failure(path, reason)
            batch = BatchClient(client, kind, files, report)
            _run_batch(batch, files.pending, max_in_flight)
    except ProxySettingsError as error:
        raise ClientError(str(error)) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise ClientError(f"{server} cannot be reached ({error}): {_remedy(server, str(error))}.") from error
    return report.failures


def _run_batch(batch: "BatchClient", outputs: dict[Path, Path], max_in_flight: int) -> None:
    """Segment the files in parallel, with a progress bar on a terminal. The first unexpected error stops the batch."""
    progress = Progress(
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    with progress, ThreadPoolExecutor(max_in_flight) as pool:
        try:
            futures = [pool.submit(batch.segment_file, source, output) for source, output in outputs.items()]
            for future in progress.track(as_completed(futures), total=len(futures), description=""):
                future.result()
        except BaseException:
            batch.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _model_warnings(client: httpx.Client, server: str) -> list[str]:
    """Return the service's warnings about its model. Raises ClientError if `server` is not the service, or refuses."""
    response = client.get("/model")
    is_json = response.headers.get("content-type", "").startswith("application/json")
    if not is_json or response.status_code not in (200, *BUSY_STATUSES):
        raise ClientError(f"{server} is not this service, or refuses the request: {_error_message(response)}")
    warnings: list[str] = response.json().get("warnings", [])
    return warnings


class BatchClient:
    """Sends files to the service and writes each response to a file. Thread-safe. Set `stopped` to end it early."""

    def __init__(self, client: httpx.Client, kind: OutputKind, files: OutputFiles, report: ConsoleReport):
        self.client = client
        self.kind = kind
        self.files = files
        self.report = report
        self.stopped = threading.Event()

    def segment_file(self, source: Path, output: Path) -> None:
        """Send one file and write the response. Raises httpx.ConnectError and httpx.ConnectTimeout."""
        try:
            with self._post(source) as response:
                is_cine = response.headers["content-type"].startswith(JSON_LINES_TYPE)
                if self.kind.suffix == ".png":
                    self._write_pictures(response, source, output, is_cine)
                else:
                    self._write_response(response, source, output, is_cine)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.RequestError as error:
            self.report.print_failure(source, f"the response is incomplete ({error or type(error).__name__})")
        except (ClientError, OSError) as error:
            self.report.print_failure(source, error)

    @contextmanager
    def _post(self, source: Path) -> Iterator[httpx.Response]:
        """Send a file, again while the service is busy, and yield the response before its body is read.

        Raises ClientError, OSError and httpx.RequestError.
        """
        headers = {"content-type": "application/octet-stream", "accept": self.kind.accept}
        for attempt in range(1, MAX_BATCH_ATTEMPTS + 1):
            with (
                source.open("rb") as file,
                self.client.stream("POST", self.kind.route, content=file, headers=headers) as response,
            ):
                if response.status_code == 200:
                    yield response
                    return
                response.read()
            may_retry = attempt < MAX_BATCH_ATTEMPTS and response.status_code in BUSY_STATUSES
            if not may_retry or self.stopped.wait(retry_after_seconds(response)):
                raise ClientError(_error_message(response))

    def _write_response(self, response: httpx.Response, source: Path, output: Path, is_cine: bool) -> None:
        """Write JSON, JSON lines or DICOM as the service sends it."""
        if is_cine and (lines_output := cine_output(output, 0)) != output:
            self.report.print_warnings(source, [f"the file is a cine: its JSON lines go to {lines_output}"])
            output = self.files.reserve(lines_output)
        with atomic_file(output) as file:
            if self.kind.suffix == ".dcm":
                file.writelines(response.iter_bytes())
                self.report.print_warnings(source, response.headers.get("x-warnings", "").split("; "))
                self.report.print_line(source, output)
            else:
                for line in self._iter_json(response, is_cine):
                    file.write(line.encode() + b"\n")
                    self.report.print_frame(source, json.loads(line), is_cine)

    def _write_pictures(self, response: httpx.Response, source: Path, output: Path, is_cine: bool) -> None:
        """Write the picture of each frame to its own PNG file."""
        for line in self._iter_json(response, is_cine):
            outcome = json.loads(line)
            if "picture" in outcome:
                index = outcome["frame"]["index"]
                path = cine_output(output, index) if is_cine else output
                if is_cine and self.files.is_kept(path):
                    self.report.print_warnings(source, [f"{path} exists already and is kept; --overwrite replaces it"])
                else:
                    with atomic_file(self.files.reserve(path) if is_cine else path) as file:
                        file.write(base64.b64decode(outcome["picture"].partition(",")[2]))  # a data URL
            self.report.print_frame(source, outcome, is_cine)

    def _iter_json(self, response: httpx.Response, is_cine: bool) -> Iterator[str]:
        """Yield the JSON text of each frame as it arrives."""
        for line in response.iter_lines() if is_cine else [response.read().decode()]:
            if self.stopped.is_set():
                raise ClientError("the batch was stopped")
            yield line


def _error_message(response: httpx.Response) -> str:
    """Return the service's error message, or the HTTP status if the response holds none."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"{response.url} answers {response.status_code} {response.reason_phrase}"


def _remedy(server: str, reason: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "set SSL_CERT_FILE to the file of a certificate to trust"
    if not server.startswith(("http://", "https://")):
        return "an address begins with http:// or https://, for example http://127.0.0.1:3000"
    return "start the service with `make serve`, or give its address with --server"
