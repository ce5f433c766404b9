"""The command: what to ask for, the requests, and what is told of them."""

import argparse
import base64
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.client.files import KINDS, ClientError, Files, Kind, of_cine, plan, whole

if TYPE_CHECKING:
    import httpx  # takes longer to load than the help may

SERVER = "http://127.0.0.1:3000"
LINES = "application/jsonl"
TRIES = 5  # of a request that the service has no place for
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
IDLE_SECONDS = 1.0  # until a connection is given up: the service closes one after five, maybe just as we ask
PATIENCE_SECONDS = 600.0  # without a byte: of a long cine, /dicom answers only when all is done


class Run:
    """All files of one call."""

    def __init__(self, client: "httpx.Client", kind: Kind, files: Files, of_model: list[str]):
        """of_model: what the model has to say against itself, which each answer says again."""
        self.client, self.kind, self.files, self.of_model = client, kind, files, set(of_model)
        self.stopped = threading.Event()
        self.printing = threading.Lock()
        self.failures = 0
        self.warned: set[tuple[object, str]] = set()

    def one(self, source: Path, target: Path) -> None:
        """Ask for one file and write what is answered. Raises httpx.ConnectError, httpx.ConnectTimeout."""
        import httpx

        try:
            with self._answer(source) as answer:
                cine = answer.headers["content-type"].startswith(LINES)
                if self.kind.suffix == ".png":
                    self._write_pictures(answer, source, target, cine)
                else:
                    self._write(answer, source, target, cine)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.RequestError as fault:
            self._failed(source, f"no whole answer came ({fault or type(fault).__name__})")
        except (ClientError, OSError) as fault:
            self._failed(source, fault)

    @contextmanager
    def _answer(self, source: Path) -> Iterator["httpx.Response"]:
        """The answer to one file, its body still to be read. Raises ClientError, OSError, httpx.RequestError."""
        headers = {"content-type": "application/octet-stream", "accept": self.kind.accept}
        for left in reversed(range(TRIES)):
            with (
                source.open("rb") as file,
                self.client.stream("POST", self.kind.route, content=file, headers=headers) as answer,
            ):
                if answer.status_code == 200:
                    yield answer
                    return
                answer.read()
            if not left or answer.status_code not in (429, 503) or self.stopped.wait(pause(answer)):
                raise ClientError(message(answer))

    def _write(self, answer: "httpx.Response", source: Path, target: Path, cine: bool) -> None:
        """A file as it is answered: JSON, lines of it, or DICOM."""
        if cine and (lines := of_cine(target, 0)) != target:
            self._warn(source, [f"this is a cine: its lines of JSON go to {lines}"])
            target = self.files.claim(lines)
        with whole(target) as file:
            if self.kind.suffix == ".dcm":
                file.writelines(answer.iter_bytes())
                self._warn(source, answer.headers.get("x-warnings", "").split("; "))
                self._say(source, target)
            else:
                for line in self._lines(answer, cine):
                    file.write(line.encode() + b"\n")
                    self._tell(json.loads(line), source, cine)

    def _write_pictures(self, answer: "httpx.Response", source: Path, target: Path, cine: bool) -> None:
        for line in self._lines(answer, cine):
            told = json.loads(line)
            if "picture" in told:
                path = self.files.claim(of_cine(target, told["frame"]["index"])) if cine else target
                with whole(path) as file:
                    file.write(base64.b64decode(told["picture"].partition(",")[2]))
            self._tell(told, source, cine)

    def _lines(self, answer: "httpx.Response", cine: bool) -> Iterator[str]:
        """The JSON of each frame, as it comes."""
        for line in answer.iter_lines() if cine else [answer.read().decode()]:
            if self.stopped.is_set():
                raise ClientError("not finished")
            yield line

    def _tell(self, told: dict[str, Any], source: Path, cine: bool) -> None:
        """told: a frame's JSON or GeoJSON, or its error."""
        about = told.get("properties") or told | told.get("nerve", {}) | told["frame"]
        name = f"{source}[{about['index']}]" if cine else source
        if "error" in told:
            self._failed(name, told["error"]["message"])
            return
        self._warn(source, about["warnings"])
        area = f"{about['area_px']} px" if about["area_mm2"] is None else f"{about['area_mm2']} mm2"
        took = [f"{sum(told['milliseconds'].values()):.0f} ms"] if "milliseconds" in told else []
        sure = ("confidence", about["confidence"]["mask"]) if about["present"] else ("presence", about["presence"])
        self._say(name, "nerve" if about["present"] else "no nerve", "{} {:.2f}".format(*sure), area, *took)

    def _say(self, *words: object) -> None:
        line = "\t".join(map(str, words)).encode(errors="backslashreplace").decode()  # a name may be no text
        with self.printing:
            try:
                print(line, flush=True)
            except BrokenPipeError:  # `| head` has read enough: the files are written all the same
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _failed(self, name: object, reason: object) -> None:
        with self.printing:
            self.failures += 1
            print(f"{name}: {reason}", file=sys.stderr)

    def _warn(self, name: object, warnings: Iterable[str]) -> None:
        """What the answers to a file have to say against themselves, each once."""
        with self.printing:
            for warning in {*filter(None, warnings)} - self.of_model:
                if (name, warning) not in self.warned:
                    print(f"{name}: {warning}", file=sys.stderr)
                    self.warned.add((name, warning))


def pause(answer: "httpx.Response") -> float:
    """Seconds until the next try, as the answer says."""
    told = answer.headers.get("retry-after", "")
    return min(float(told) if told.isdecimal() else PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)


def message(answer: "httpx.Response") -> str:
    """The service's words; the status where there are none."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"{answer.url} answers {answer.status_code} {answer.reason_phrase}"


def remedy(server: str, fault: str) -> str:
    """What may help where no service was reached."""
    if "CERTIFICATE_VERIFY_FAILED" in fault:
        return "SSL_CERT_FILE names the file of a certificate that is to be trusted"
    if not server.startswith(("http://", "https://")):
        return f"an address begins with http:// or https://, as {SERVER} does"
    return "`make serve` starts the service, --server says where it is"


def ask(server: str, kind: Kind, targets: dict[Path, Path], files: Files, at_once: int) -> int:
    """How many frames, or whole files, failed. Raises ClientError where there is no service."""
    import httpx
    from rich.console import Console
    from rich.progress import Progress

    from service.keys import key_header

    patience = httpx.Timeout(PATIENCE_SECONDS, pool=None)
    limits = httpx.Limits(keepalive_expiry=IDLE_SECONDS)
    bar = Progress(
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    try:
        with httpx.Client(base_url=server, headers=key_header(), timeout=patience, limits=limits) as client, bar:
            greeting = client.get("/model")
            ours = greeting.headers.get("content-type", "").startswith("application/json")
            if not ours or greeting.status_code not in (200, 429, 503):
                raise ClientError(f"{server} is no such service, or refuses: {message(greeting)}")
            of_model = greeting.json().get("warnings", [])
            for warning in of_model:
                print(f"nervemask: {warning}", file=sys.stderr)
            run = Run(client, kind, files, of_model)
            with ThreadPoolExecutor(at_once) as pool:
                try:
                    asked = [pool.submit(run.one, source, target) for source, target in targets.items()]
                    for one in bar.track(as_completed(asked), total=len(asked), description=""):
                        one.result()
                except BaseException:
                    run.stopped.set()
                    pool.shutdown(cancel_futures=True)
                    raise
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        raise ClientError(f"{server} cannot be reached ({fault}): {remedy(server, str(fault))}.") from fault
    return run.failures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service.client",
        description="Ask a running service for the nerve masks of frames and cines, and write them into files.",
        epilog="The service's key: in NERVEMASK_KEY. "
        "Exit status: 0 all answered, 1 a frame was refused or failed (it is named), 2 wrong use or no service.",
    )
    parser.add_argument("frames", nargs="+", type=Path, help="PNG, JPEG, TIFF or DICOM files, or folders of them")
    parser.add_argument("--out", required=True, type=Path, help="a file (its suffix says what), or else a folder")
    parser.add_argument(
        "--as", dest="kind", choices=KINDS, help="what to ask for (what the suffix of --out says, or mask)"
    )
    parser.add_argument("--at-once", type=int, default=4, help="files under way at the same time (4)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    server = os.environ.get("NERVEMASK_SERVER") or SERVER
    parser.add_argument("--server", default=server, help=f"the service (NERVEMASK_SERVER, or {SERVER})")
    arguments = parser.parse_args()
    if arguments.at_once < 1:
        parser.error("--at-once is 1 at least")
    try:
        kind, targets = plan(arguments.frames, arguments.out, arguments.kind)
        files = Files(targets, arguments.overwrite)
        failures = ask(arguments.server, kind, targets, files, arguments.at_once)
    except (ClientError, OSError) as fault:
        print(f"nervemask: {fault}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
