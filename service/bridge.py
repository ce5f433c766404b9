"""`python -m service.bridge`: ultrasound studies in an Orthanc get their nerve masks, each instance once.

Orthanc numbers all that happens to it, and the bridge reads on from the number it has kept. Where the study of a new
instance has come to rest, the service segments each ultrasound instance, and the DICOM Segmentation is stored in the
same study. That brings the study to rest anew, but what is there already is not made again: a number that comes twice,
or is lost, does no harm.
"""

import argparse
import itertools
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import httpx

from service.keys import key_header

log = logging.getLogger("nervemask.bridge")

POLL_SECONDS = 2.0
PAUSES_SECONDS = (1, 2, 4, 8, 16)  # after a request that failed; from then on the longest
LONGEST_PAUSE_SECONDS = 30
ANSWER_SECONDS = 600.0  # without a byte: of a long cine, the service answers only when all is done
TRIES = 5  # at an instance that a server breaks down over, until it is left alone
CHANGES = 1000  # to a request
UNUSABLE = (400, 413, 415, 422)  # answered where another try would end no better
BREAKDOWNS = (500, 504)
GONE = (404,)


class StopError(Exception):
    """The bridge has to end: it was told to, or it cannot go on and may not wait."""


class RefusedError(Exception):
    """A server's last word on a request."""


class Fault(Exception):  # noqa: N818 - it stays inside
    """No success. status: 0 without an answer. broken: the server took the request and failed on it."""

    def __init__(self, what: str, status: int, broken: bool):
        super().__init__(what)
        self.status, self.broken = status, broken


class Server:
    """A server that may be away for a while: it is asked until it answers."""

    def __init__(self, name: str, address: httpx.URL, auth: tuple[str, str] | None, stop: threading.Event, once: bool):
        """stop: ends the waiting. once: there is no waiting."""
        self.name, self.stop, self.once = name, stop, once
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=10)
        one_by_one = httpx.Limits(max_keepalive_connections=0)  # Orthanc drops idle ones, at times while they are used
        as_it_is = {"accept-encoding": "identity"}  # Orthanc would compress pixels, seven times as slow
        self.client = httpx.Client(base_url=address, auth=auth, headers=as_it_is, timeout=timeout, limits=one_by_one)

    def ask(
        self,
        method: str,
        path: str,
        body: IO[bytes] | dict[str, Any] | None = None,
        into: IO[bytes] | None = None,
        final: tuple[int, ...] = (),
        tries: int = 0,
    ) -> Any:
        """The JSON of the answer; with `into` None, and the answer is written to that file.

        body: a DICOM file, or what goes as JSON. final: statuses that no other try would change. tries: after how many
        breakdowns the request is given up; 0: never. Raises RefusedError for both, and StopError.
        """
        breakdowns = 0
        for tried, pause in enumerate(itertools.chain(PAUSES_SECONDS, itertools.repeat(LONGEST_PAUSE_SECONDS))):
            try:
                found = self._ask_once(method, path, body, into)
            except Fault as fault:
                breakdowns += fault.broken
                if fault.status in final or (tries and breakdowns == tries):
                    raise RefusedError(f"{self.name}: {fault}") from None
                if self.once and not (tries and fault.broken):
                    raise StopError(f"{self.name} is not to be had ({fault}), try again later") from None
                if not tried:
                    log.warning("%s is not to be had (%s), waiting", self.name, fault)
                self.pause(pause)
            else:
                if tried:
                    log.info("%s answers again", self.name)
                return found

    def _ask_once(self, method: str, path: str, body: IO[bytes] | dict[str, Any] | None, into: IO[bytes] | None) -> Any:
        sent: dict[str, Any] = {"json": body}
        if body and not isinstance(body, dict):
            body.seek(0)
            sent = {"content": body, "headers": {"content-type": "application/dicom"}}
        try:
            with self.client.stream(method, path, **sent) as answer:
                if answer.status_code != 200:
                    status = answer.status_code
                    raise Fault(f"status {status} {_code(answer)}".strip(), status, status in BREAKDOWNS)
                if into:
                    into.seek(0)
                    into.truncate()
                    into.writelines(answer.iter_bytes())
                    return None
                answer.read()
                return answer.json()
        except (httpx.HTTPError, ValueError) as fault:
            never_there = isinstance(fault, (httpx.ConnectError, httpx.ConnectTimeout))
            raise Fault(f"{type(fault).__name__}: {fault}", 0, not never_there) from fault

    def pause(self, seconds: float) -> None:
        """Raises StopError, at once, when the bridge is told to end."""
        if self.stop.wait(seconds):
            raise StopError("told to stop")


def _code(answer: httpx.Response) -> str:
    """The service's word for its error. Its sentence may quote the file's header, and stays out of the log."""
    try:
        answer.read()
        return str(answer.json()["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return ""


def follow(orthanc: Server, service: Server, state: Path, once: bool) -> None:
    """Study after study as they come to rest; `once`: up to the last that has. Raises StopError, OSError."""
    log.info("the service's model run: %s", run_of(service))
    position = kept = read_position(state)
    write_position(state, kept)  # if that cannot be done, it is better known now
    restless: dict[str, int] = {}  # studies that something came to, and a position before it
    while True:
        last = orthanc.ask("GET", "/changes?last")["Last"]
        if last < position:
            log.warning("Orthanc counts %d changes, fewer than before (%d): all are read anew", last, position)
            position, restless = 0, {}
        changes = orthanc.ask("GET", f"/changes?since={position}&limit={CHANGES}")
        # Not its StableStudy: when Orthanc is stopped it forgets what was restless, and tells of no rest any more.
        came = [change["ID"] for change in changes["Changes"] if change["ChangeType"] == "NewInstance"]
        studies = studies_of([*restless, *came], orthanc)
        for study in studies:
            if study["IsStable"]:
                segment_study(study["ID"], orthanc, service)
        restless = {study["ID"]: restless.get(study["ID"], position) for study in studies if not study["IsStable"]}
        position = changes["Last"]
        if kept != (done := min([position, *restless.values()])):
            kept = done
            write_position(state, kept)
        if once and changes["Done"]:
            return
        orthanc.pause(POLL_SECONDS if changes["Done"] else 0)


def studies_of(resources: list[str], orthanc: Server) -> list[dict[str, Any]]:
    """The studies among them or above them, each once, as Orthanc describes them; without what is deleted."""
    if not resources:
        return []
    found: list[dict[str, Any]] = orthanc.ask(
        "POST", "/tools/bulk-content", body={"Resources": resources, "Level": "Study", "Metadata": False}
    )
    return found


def run_of(service: Server) -> str:
    return str(service.ask("GET", "/model")["run_id"])


def segment_study(study: str, orthanc: Server, service: Server) -> None:
    """Each ultrasound instance of the study that has no segmentation by the service's model run. Raises StopError."""
    try:
        instances = orthanc.ask("GET", f"/studies/{study}/instances", final=GONE)
        series = orthanc.ask("GET", f"/studies/{study}/series", final=GONE)
    except RefusedError:
        log.info("study %s: deleted meanwhile", study)
        return
    log.info("study %s: %d instance(s) in %d series", study, len(instances), len(series))
    modalities = {one["ID"]: one["MainDicomTags"].get("Modality", "") for one in series}
    # Of this study, not of all Orthanc: a study that is sent again for another patient keeps its UIDs.
    held = {instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances}
    for instance in instances:
        orthanc.pause(0)
        modality = modalities.get(instance["ParentSeries"])
        if modality not in ("US", "", "SEG"):
            log.info("instance %s: passed over (modality %s)", instance["ID"], modality)
        elif modality != "SEG":
            try:
                log.info("instance %s: %s", instance["ID"], segment(instance, modality, held, orthanc, service))
            except RefusedError as fault:
                log.warning("instance %s: left alone (%s)", instance["ID"], fault)


def segment(instance: dict[str, Any], modality: str, held: set[str], orthanc: Server, service: Server) -> str:
    """From Orthanc to the service and back, by way of the disk, for cines are large; what came of it, in words.

    instance: as Orthanc lists it. held: the SOP Instance UIDs in its study. Raises RefusedError, StopError.
    """
    from pydicom import dcmread

    from service.dicom.cine import CAPTURES, ULTRASOUND
    from service.dicom.segmentation_object import derived_uid

    path = f"/instances/{instance['ID']}"
    kind = orthanc.ask("GET", f"{path}/metadata?expand", final=GONE).get("SopClassUid")
    if kind not in ULTRASOUND and not (kind in CAPTURES and modality == "US"):
        return "no ultrasound"
    if derived_uid(instance["MainDicomTags"]["SOPInstanceUID"], run_of(service)) in held:
        return "has its segmentation"
    with TemporaryFile() as source, TemporaryFile() as made:
        orthanc.ask("GET", f"{path}/file", into=source, final=GONE, tries=TRIES)
        service.ask("POST", "/dicom", body=source, into=made, final=UNUSABLE, tries=TRIES)
        made.seek(0)
        if dcmread(made, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID in held:
            return "has its segmentation, by another UID than was foreseen"  # an endless round, if it were stored
        orthanc.ask("GET", path, final=GONE)  # a segmentation would bring back what was deleted meanwhile
        stored = orthanc.ask("POST", "/instances", body=made, final=UNUSABLE)
    return f"segmented, {stored['ID']} ({stored['Status']})"


def read_position(state: Path) -> int:
    """The number of a change, up to which all are done with; 0 before the first. Raises StopError."""
    try:
        return int(state.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as fault:
        raise StopError(f"{state} holds no position ({fault}): remove it to begin anew") from fault


def write_position(state: Path, position: int) -> None:
    """All of it or nothing, also when the power fails. Raises OSError."""
    new = state.with_name(state.name + ".new")
    with new.open("w") as file:
        file.write(f"{position}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(state)


def address(text: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except httpx.InvalidURL as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.bridge", description="Nerve masks for an Orthanc.")
    parser.add_argument("--orthanc", type=address, default="http://127.0.0.1:8042", help="(http://127.0.0.1:8042)")
    parser.add_argument("--service", type=address, default="http://127.0.0.1:3000", help="(http://127.0.0.1:3000)")
    parser.add_argument("--state", type=Path, default=Path("bridge.state"), help="keeps the position (bridge.state)")
    parser.add_argument("--once", action="store_true", help="work through what is there, and end")
    parser.epilog = (
        "Orthanc's user: in its URL, or ORTHANC_USER and ORTHANC_PASSWORD. The service's key: in NERVEMASK_KEY."
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    stop = threading.Event()
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, lambda *_: stop.set())
    auth = None  # httpx takes it from the URL
    if "ORTHANC_USER" in os.environ and not arguments.orthanc.username:
        auth = os.environ["ORTHANC_USER"], os.environ.get("ORTHANC_PASSWORD", "")
    orthanc = Server("Orthanc", arguments.orthanc, auth, stop, arguments.once)
    service = Server("the service", arguments.service, None, stop, arguments.once)
    service.client.headers.update(key_header())
    try:
        follow(orthanc, service, arguments.state, arguments.once)
    except (StopError, OSError) as fault:
        if not stop.is_set():
            sys.exit(f"bridge: {fault}")
        log.info("%s", fault)


if __name__ == "__main__":
    main()
