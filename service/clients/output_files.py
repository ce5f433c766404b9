"""Choose the input and output files of a batch. Each response gets its own file, and a file is complete or absent."""

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import urlencode

from service.clients.file_walk import walk_files
from service.clients.printable_text import print_problem
from service.decoding.dicom_signature import HEAD_BYTES, find_start

FRAME_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jls", ".jxl", ".jp2", ".j2k", ".tif", ".tiff"),
    *(".dcm", ".dicom", ".mp4", ".avi"),
)
KINDS_OF_FRAMES = "PNG, JPEG, TIFF, DICOM, MP4 or AVI file"


class OutputKind(NamedTuple):
    """A kind of output: the route that returns it, the suffix of its files and the Accept header."""

    route: str
    suffix: str
    accept: str = "*/*"

    def with_parameters(self, parameters: Mapping[str, str]) -> Self:
        """Return the kind with further query parameters of its route."""
        separator = "&" if "?" in self.route else "?"
        return self._replace(route=f"{self.route}{separator}{urlencode(parameters)}") if parameters else self


OUTPUT_KINDS = {
    "mask": OutputKind("/segment?picture=mask", ".png"),
    "overlay": OutputKind("/segment?picture=overlay", ".png"),
    "json": OutputKind("/segment", ".json"),
    "geojson": OutputKind("/segment", ".geojson", "application/geo+json"),
    "dicom": OutputKind("/dicom", ".dcm"),
}
KIND_BY_SUFFIX = {
    ".png": "mask",
    ".json": "json",
    ".jsonl": "json",
    ".geojson": "geojson",
    ".geojsonl": "geojson",
    ".dcm": "dicom",
}


class ClientError(Exception):
    """A batch, or a file of it, cannot be processed. The message says why."""


class BatchPlan(NamedTuple):
    """What a batch does.

    kind: the kind of output.
    outputs: the output file of each input file.
    unusable: input files and folders that cannot be read, with the reason.
    keeps_existing: whether existing outputs are kept, so that an interrupted batch goes on.
    """

    kind: OutputKind
    outputs: dict[Path, Path]
    unusable: list[tuple[Path, str]]
    keeps_existing: bool


def plan_outputs(inputs: list[Path], out: Path, kind_name: str | None) -> BatchPlan:
    """Return the plan of a batch. Raises ClientError.

    inputs: files and folders.
    out: the output file if there is one input file and `out` has a suffix; else the output folder.
    kind_name: a key of OUTPUT_KINDS. None: the suffix of the output file decides, or "mask".
    """
    if missing := [str(path) for path in inputs if not path.exists()]:
        raise ClientError(f"{', '.join(missing)} does not exist")
    if len(inputs) == 1 and inputs[0].is_file() and out.suffix and not out.is_dir():
        return BatchPlan(_kind_of_file(out, kind_name), {inputs[0]: out}, [], keeps_existing=False)
    if out.is_file() or (out.suffix.lower() in KIND_BY_SUFFIX and not out.is_dir()):
        raise ClientError(f"{out} is a file, or has the name of one: several outputs need a folder")
    kind = OUTPUT_KINDS[kind_name or "mask"]
    unusable: list[tuple[Path, str]] = []
    outputs = _outputs_in_folder(inputs, out, kind.suffix, unusable)
    return BatchPlan(kind, outputs, unusable, keeps_existing=True)


def _kind_of_file(out: Path, kind_name: str | None) -> OutputKind:
    suffix_kind_name = KIND_BY_SUFFIX.get(out.suffix.lower())
    kind = OUTPUT_KINDS[kind_name or suffix_kind_name or "mask"]
    if suffix_kind_name is None or OUTPUT_KINDS[suffix_kind_name].suffix != kind.suffix:
        remedy = f"use {kind.suffix} for {kind_name}" if kind_name else f"use one of {', '.join(KIND_BY_SUFFIX)}"
        raise ClientError(f"{out} has the wrong suffix: {remedy}")
    return kind


def _outputs_in_folder(
    inputs: list[Path], out: Path, suffix: str, unusable: list[tuple[Path, str]]
) -> dict[Path, Path]:
    """Give each file below the inputs an output below `out`, with its path relative to the inputs' common folder.

    Adds what cannot be read to `unusable`.
    """
    common = os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in inputs])
    files = [file for path in inputs for file in (find_frames(path, out, unusable) if path.is_dir() else [path])]
    # A file that is given twice counts once.
    file_by_name = {Path(os.path.relpath(file, common)): file for file in files}
    # Drop the suffix of the input, but not the last number of a UID. Inputs that differ only in the suffix keep it.
    stems = {name: name.with_suffix("") if name.suffix.lower() in FRAME_SUFFIXES else name for name in file_by_name}
    uses = Counter(stems.values())
    return {
        file: out / f"{name if uses[stems[name]] > 1 else stems[name]}{suffix}" for name, file in file_by_name.items()
    }


def find_frames(folder: Path, out: Path, unusable: list[tuple[Path, str]]) -> list[Path]:
    """Return the frame files below a folder, sorted; print the names of other files to standard error.

    Hidden files are ignored, and so are earlier outputs below `out`. Unreadable folders and broken links are added to
    `unusable`.

    Raises ClientError if there is neither a frame file nor anything unusable.
    """
    outputs = out.resolve() if folder.resolve() in out.resolve().parents else None
    frames, others = [], []

    def add_unusable(error: OSError) -> None:
        unusable.append((Path(error.filename), f"cannot be read ({error.strerror})"))

    for path in sorted(walk_files(folder, add_unusable)):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or outputs in path.resolve().parents:
            continue
        if not path.is_file():
            unusable.append((path, "is a link to a file that does not exist, or is no file"))
        elif path.suffix.lower() in FRAME_SUFFIXES or is_dicom(path) is not False:
            frames.append(path)  # an unreadable file too: sending it fails with the reason
        else:
            others.append(path)
    if not frames and not unusable:
        raise ClientError(f"{folder} holds no {KINDS_OF_FRAMES}")
    for path in others:
        print_problem(f"{path} is skipped: not a {KINDS_OF_FRAMES}")
    return frames


def is_dicom(path: Path) -> bool | None:
    """Return whether the file starts as a DICOM file does; None if it cannot be read.

    A DICOMDIR starts so too, but holds no frame.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    return find_start(head) is not None and path.name != "DICOMDIR"


def cine_output(output: Path, index: int) -> Path:
    """Return the output file for frame `index` of a cine, where a single frame's output would be `output`.

    PNG: one file per frame, with the index in its name. JSON: one file of JSON lines. DICOM: one file, `output` itself.
    """
    if output.suffix.lower() == ".png":
        return output.with_name(f"{output.stem}_{index:04d}{output.suffix}")
    return output.with_name(output.name + "l") if output.suffix.lower().endswith("json") else output


class OutputFiles:
    """The output files of a batch. Each response gets its own file, and none replaces a frame or an existing file.

    pending: the output file of each input file that has to be sent.
    unusable_inputs: as in BatchPlan.
    """

    def __init__(self, plan: BatchPlan, overwrite: bool):
        """Reserve the output files. Raises ClientError if an output file must not be written.

        overwrite: replace existing files.
        """
        self.overwrite = overwrite
        self.keeps_existing = plan.keeps_existing and not overwrite
        self.unusable_inputs = plan.unusable
        self.reserved = {os.path.realpath(frame) for frame in plan.outputs}
        self.pending: dict[Path, Path] = {}
        for frame, output in plan.outputs.items():
            if not self._is_complete(frame, output):
                self.reserve(output)
                self.pending[frame] = output
        if kept := len(plan.outputs) - len(self.pending):
            print_problem(f"{kept} outputs exist already and are kept; --overwrite replaces them")

    def _is_complete(self, frame: Path, output: Path) -> bool:
        """Return whether a kept output is the response to a frame. Raises ClientError for a cine's existing output."""
        if self.is_kept(output):
            return True
        if not is_dicom(frame) or (cine_file := cine_output(output, 0)) == output:
            return False
        if output.suffix.lower() != ".png" and self.is_kept(cine_file):
            return True
        if not self.is_kept(cine_file):
            self._check(cine_file)
        return False

    def is_kept(self, path: Path) -> bool:
        """Return whether a file exists from an earlier, interrupted batch, and is kept."""
        return self.keeps_existing and path.exists() and os.path.realpath(path) not in self.reserved

    def reserve(self, path: Path) -> Path:
        """Reserve `path` for one response and return it. Raises ClientError."""
        self._check(path)
        self.reserved.add(os.path.realpath(path))
        return path

    def _check(self, path: Path) -> None:
        if os.path.realpath(path) in self.reserved:
            raise ClientError(f"{path} is already a frame, or the output of another frame")
        if path.exists() and not self.overwrite:
            raise ClientError(f"{path} already exists: use --overwrite to replace it")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name; rename it to `path` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
