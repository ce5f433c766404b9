"""`python -m service.client`: frames to a running service, its answers into files."""

import argparse
import base64
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    import httpx  # takes longer to load than the help may

SERVER = "http://127.0.0.1:3000"
READ = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
DICOM_LETTERS_AT = 128
LINES = "application/jsonl"
TRIES = 5  # of a request that the service has no place for
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
IDLE_SECONDS = 1.0  # until a connection is given up: the service closes one after five, maybe just as we ask
PATIENCE_SECONDS = 60.0  # without a byte; the service gives up earlier, and says so


class Kind(NamedTuple):
    """What may be asked for: by which request, and with which suffix it is written."""

    route: str
    suffix: str
    accept: str = "*/*"


KINDS = {
    "mask": Kind("/segment?picture=mask", ".png"),
    "overlay": Kind("/segment?picture=overlay", ".png"),
    "json": Kind("/segment", ".json"),
    "geojson": Kind("/segment", ".geojson", "application/geo+json"),
    "dicom": Kind("/dicom", ".dcm"),
}
MEANT = {".png": "mask", ".json": "json", ".jsonl": "json", ".geojson": "geojson", ".geojsonl": "geojson"}
MEANT |= {".dcm": "dicom"}


class ClientError(Exception):
    """What cannot be done, by us or by the service; the message says why."""


def plan(inputs: list[Path], out: Path, kind: str | None) -> tuple[Kind, dict[Path, Path]]:
    """What to ask for, and for each frame's file the file of its answer. Raises ClientError.

    One frame goes to the file `out`, if that has a suffix; all else into the folder `out`, by its path below the
    folder that the inputs have in common.
    """
    if absent := [str(path) for path in inputs if not path.exists()]:
        raise ClientError(f"there is no {', '.join(absent)}")
    if len(inputs) == 1 and inputs[0].is_file() and out.suffix and not out.is_dir():
        meant = MEANT.get(out.suffix.lower())
        chosen = KINDS[kind or meant or "mask"]
        if meant is None or KINDS[meant].suffix != chosen.suffix:
            known = f"{kind} goes into *{chosen.suffix}" if kind else f"one of *{', *'.join(MEANT)} is"
            raise ClientError(f"what shall {out} hold? {known}")
        return chosen, {inputs[0]: out}
    if out.is_file():
        raise ClientError(f"{out} is a file: the answers need a folder")
    chosen = KINDS[kind or "mask"]
    base = os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in inputs])
    found = [file for path in inputs for file in (frames_in(path, out) if path.is_dir() else [path])]
    below = {Path(os.path.relpath(file, base)): file for file in found}  # a file that is named twice stands once
    # Without its suffix; the last number of a UID is none, and where two would go to one file, both keep it.
    stems = {name: name.with_suffix("") if name.suffix.lower() in READ else name for name in below}
    shared = Counter(stems.values())
    return chosen, {
        file: out / f"{name if shared[stems[name]] > 1 else stems[name]}{chosen.suffix}" for name, file in below.items()
    }


def frames_in(folder: Path, out: Path) -> list[Path]:
    """All frames in a folder and below it, but what is hidden or an earlier answer. Raises ClientError."""
    answers = out.resolve() if folder.resolve() in out.resolve().parents else None
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (path.suffix.lower() in READ or is_dicom(path))
        and answers not in path.resolve().parents
    ]
    if not found:
        raise ClientError(f"{folder} holds no PNG, JPEG, TIFF or DICOM file")
    return found


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM by its own word. A disk's index says so too, and holds no frame."""
    with path.open("rb") as file:
        return file.read(DICOM_LETTERS_AT + 4)[DICOM_LETTERS_AT:] == b"DICM" and path.name != "DICOMDIR"


def of_cine(target: Path, index: int) -> Path:
    """Where a cine's answer goes, if that to a single frame would go to `target`: a file for each picture, or lines."""
    if target.suffix.lower() == ".png":
        return target.with_name(f"{target.stem}_{index:04d}{target.suffix}")
    return target.with_name(target.name + "l") if target.suffix.lower().endswith("json") else target


class Files:
    """The files of one run: no two answers go into one, and none into a frame or what was there before."""

    def __init__(self, targets: dict[Path, Path], overwrite: bool):
        """Raises ClientError where a file is in the way."""
        self.overwrite = overwrite
        self.taken = {os.path.realpath(source) for source in targets}
        for source, target in targets.items():
            self.claim(target)
            if is_dicom(source) and (first := of_cine(target, 0)) != target:
                self._check(first)

    def claim(self, path: Path) -> Path:
        """`path`, kept for one answer. Raises ClientError."""
        self._check(path)
        self.taken.add(os.path.realpath(path))
        return path

    def _check(self, path: Path) -> None:
        if os.path.realpath(path) in self.taken:
            raise ClientError(f"{path} is a frame, or the place of another answer")
        if path.exists() and not self.overwrite:
            raise ClientError(f"{path} is there already: --overwrite replaces it")


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which has another name until all of it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Run:
    """All files of one call."""

    def __init__(self, client: "httpx.Client", kind: Kind, files: Files):
        self.client, self.kind, self.files = client, kind, files
        self.stopped = threading.Event()
        self.printing = threading.Lock()
        self.failures = 0
        self.warned: set[str] = set()

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
            target = self.files.claim(lines)
        with whole(target) as file:
            if self.kind.suffix == ".dcm":
                file.writelines(answer.iter_bytes())
                self._warn(answer.headers.get("x-warnings"))
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
        self._warn(*about["warnings"])
        area = f"{about['area_px']} px" if about["area_mm2"] is None else f"{about['area_mm2']} mm2"
        took = [f"{sum(told['milliseconds'].values()):.0f} ms"] if "milliseconds" in told else []
        self._say(name, "nerve" if about["present"] else "no nerve", f"{about['presence']:.4f}", area, *took)

    def _say(self, *words: object) -> None:
        line = "\t".join(map(str, words)).encode(errors="backslashreplace").decode()  # a name may be no text
        with self.printing:
            print(line, flush=True)

    def _failed(self, name: object, reason: object) -> None:
        with self.printing:
            self.failures += 1
            print(f"{name}: {reason}", file=sys.stderr)

    def _warn(self, *warnings: str | None) -> None:
        """What answers have to say against themselves, each once."""
        with self.printing:
            for warning in {*filter(None, warnings)} - self.warned:
                print(f"nervemask: {warning}", file=sys.stderr)
                self.warned.add(warning)


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


def ask(server: str, kind: Kind, targets: dict[Path, Path], files: Files, at_once: int) -> int:
    """How many frames, or whole files, failed. Raises ClientError where there is no service."""
    import httpx
    from rich.console import Console
    from rich.progress import Progress

    patience = httpx.Timeout(PATIENCE_SECONDS, pool=None)
    limits = httpx.Limits(keepalive_expiry=IDLE_SECONDS)
    bar = Progress(
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    try:
        with httpx.Client(base_url=server, timeout=patience, limits=limits) as client, bar:
            greeting = client.get("/model")
            ours = greeting.headers.get("content-type", "").startswith("application/json")
            if not ours or greeting.status_code not in (200, 429, 503):
                raise ClientError(f"{server} is no such service, or refuses: {message(greeting)}")
            run = Run(client, kind, files)
            with ThreadPoolExecutor(at_once) as pool:
                asked = [pool.submit(run.one, source, target) for source, target in targets.items()]
                try:
                    for one in bar.track(as_completed(asked), total=len(asked), description=""):
                        one.result()
                except BaseException:
                    run.stopped.set()
                    pool.shutdown(cancel_futures=True)
                    raise
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        remedy = "`make serve` starts the service, --server says where it is"
        raise ClientError(f"{server} cannot be reached ({fault}): {remedy}.") from fault
    return run.failures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service.client",
        description="Ask a running service for the nerve masks of frames and cines, and write them into files.",
        epilog="Exit status: 0 all answered, 1 a frame was refused or failed (it is named), 2 wrong use or no service.",
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
