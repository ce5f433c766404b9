"""Send many files to a running service and write its responses to files."""

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
from service.clients.bounded_network import MAX_RESPONSE_BYTES
from service.clients.console_report import ConsoleReport
from service.clients.http_connection import ProxySettingsError, open_http_client
from service.clients.output_files import ClientError, OutputFiles, OutputKind, atomic_file, cine_output
from service.clients.response_forms import (
    ERROR_RESPONSE,
    FEATURE_OUTCOME,
    MODEL_DESCRIPTION,
    SEGMENTATION_OUTCOME,
    Outcome,
    Segmentation,
)
from service.clients.response_reader import (
    MAX_CARD_BYTES,
    MAX_FILE_BYTES,
    MAX_FRAME_BYTES,
    ResponseError,
    check_content_type,
    describe_status,
    describe_url,
    iter_bytes,
    iter_lines,
    parse_json,
    read_bytes,
    read_error,
)
from service.clients.retries import BUSY_STATUSES, MAX_BATCH_ATTEMPTS, retry_after_seconds

JSON_LINES_TYPE = "application/jsonl"
GEOJSON_TYPE = "application/geo+json"
DICOM_TYPE = "application/dicom"
HEADERS = {"accept-encoding": "identity"}  # the clients refuse compressed responses
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
        with open_http_client(server, headers=HEADERS | api_key_header(), timeout=timeout, limits=limits) as client:
            report = ConsoleReport(_model_warnings(client, server))
            for path, reason in files.unusable_inputs:
                report.print_failure(path, reason)
            batch = BatchClient(client, kind, files, report)
            _run_batch(batch, files.pending, max_in_flight)
    except ProxySettingsError as error:
        raise ClientError(str(error)) from error
    except ResponseError as error:
        raise ClientError(str(error)) from error
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout) as error:
        reason = str(error) or type(error).__name__
        raise ClientError(f"{server} does not answer as this service does ({reason}).") from error
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
    """Return the service's warnings about its model. Raises ClientError if `server` is not the service, or refuses.

    A busy service is asked for its masks all the same, and then without these warnings.
    """
    with client.stream("GET", "/model") as response:
        if response.status_code == 200:
            check_content_type(response, "application/json")
            return parse_json(response, read_bytes(response, MAX_CARD_BYTES), MODEL_DESCRIPTION).warnings
        error = read_error(response, ERROR_RESPONSE)
        if error and response.status_code in BUSY_STATUSES:
            return []
        reason = error.error.message if error else describe_status(response)
        raise ClientError(f"{server} is not this service, or refuses the request: {reason}")


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
                if self.kind.suffix == ".dcm":
                    self._write_dicom(response, source, output)
                elif self.kind.suffix == ".png":
                    self._write_pictures(response, source, output)
                else:
                    self._write_json(response, source, output)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            self.report.print_failure(source, f"the response is incomplete ({describe_url(error.request)}: {reason})")
        except (ClientError, ResponseError, OSError) as error:
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
                error = read_error(response, ERROR_RESPONSE)
            may_retry = attempt < MAX_BATCH_ATTEMPTS and response.status_code in BUSY_STATUSES
            if not may_retry or self.stopped.wait(retry_after_seconds(response)):
                raise ClientError(error.error.message if error else describe_status(response))

    def _write_dicom(self, response: httpx.Response, source: Path, output: Path) -> None:
        """Write a DICOM file as the service sends it."""
        check_content_type(response, DICOM_TYPE)
        with atomic_file(output) as file:
            file.writelines(iter_bytes(response, MAX_FILE_BYTES))
        self.report.print_warnings(source, response.headers.get("x-warnings", "").split("; "))
        self.report.print_line(source, output)

    def _write_json(self, response: httpx.Response, source: Path, output: Path) -> None:
        """Write JSON or JSON lines as the service sends them."""
        is_cine = self._is_cine(response)
        if is_cine and (lines_output := cine_output(output, 0)) != output:
            self.report.print_warnings(source, [f"the file is a cine: its JSON lines go to {lines_output}"])
            output = self.files.reserve(lines_output)
        with atomic_file(output) as file:
            for line, outcome in self._iter_outcomes(response, is_cine):
                file.write(line + b"\n")
                self.report.print_frame(source, outcome, is_cine)

    def _write_pictures(self, response: httpx.Response, source: Path, output: Path) -> None:
        """Write the picture of each frame to its own PNG file."""
        is_cine = self._is_cine(response)
        for _, outcome in self._iter_outcomes(response, is_cine):
            if isinstance(outcome, Segmentation):
                try:
                    png = outcome.read_png()
                except ValueError as error:
                    raise ResponseError(f"{describe_url(response)} sends an unusable picture ({error})") from None
                path = cine_output(output, outcome.index) if is_cine else output
                if is_cine and self.files.is_kept(path):
                    self.report.print_warnings(source, [f"{path} exists already and is kept; --overwrite replaces it"])
                else:
                    with atomic_file(self.files.reserve(path) if is_cine else path) as file:
                        file.write(png)
            self.report.print_frame(source, outcome, is_cine)

    def _is_cine(self, response: httpx.Response) -> bool:
        """Return whether the response has a line for each frame of a cine. Raises ResponseError."""
        single_type = GEOJSON_TYPE if self.kind.accept == GEOJSON_TYPE else "application/json"
        return check_content_type(response, single_type, JSON_LINES_TYPE) == JSON_LINES_TYPE

    def _iter_outcomes(self, response: httpx.Response, is_cine: bool) -> Iterator[tuple[bytes, Outcome]]:
        """Yield the JSON of each frame as it arrives, as sent and parsed. Raises ResponseError, ClientError."""
        form = FEATURE_OUTCOME if self.kind.accept == GEOJSON_TYPE else SEGMENTATION_OUTCOME
        if is_cine:
            lines = iter_lines(response, MAX_FRAME_BYTES, MAX_RESPONSE_BYTES)
        else:
            lines = iter([read_bytes(response, MAX_FRAME_BYTES)])
        for number, line in enumerate(lines):
            if self.stopped.is_set():
                raise ClientError("the batch was stopped")
            outcome = parse_json(response, line, form)
            if is_cine and outcome.index != number:  # else a mask would get another frame's number, or be missing
                reason = f"sends frame {outcome.index} where frame {number} is next"
                raise ResponseError(f"{describe_url(response)} {reason}")
            yield line, outcome


def _remedy(server: str, reason: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "set SSL_CERT_FILE to the file of a certificate to trust"
    if not server.startswith(("http://", "https://")):
        return "an address begins with http:// or https://, for example http://127.0.0.1:3000"
    return "start the service with `make serve`, or give its address with --server"
