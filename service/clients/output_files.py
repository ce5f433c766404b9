"""Choose the input and output files of a batch. Each response gets its own file, and a file is complete or absent."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
DICOM_PREAMBLE_BYTES = 128  # before the letters DICM (DICOM PS3.10, section 7.1)


class OutputKind(NamedTuple):
    """A kind of output: the route that returns it, the suffix of its files and the Accept header."""

    route: str
    suffix: str
    accept: str = "*/*"


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


def plan_outputs(inputs: list[Path], out: Path, kind_name: str | None) -> tuple[OutputKind, dict[Path, Path]]:
    """Return the output kind, and the output file of each input file. Raises ClientError.

    inputs: files and folders.
    out: the output file if there is one input file and `out` has a suffix; else the output folder.
    kind_name: a key of OUTPUT_KINDS. None: the suffix of the output file decides, or "mask".
    """
    if missing := [str(path) for path in inputs if not path.exists()]:
        raise ClientError(f"{', '.join(missing)} does not exist")
    if len(inputs) == 1 and inputs[0].is_file() and out.suffix and not out.is_dir():
        return _kind_of_file(out, kind_name), {inputs[0]: out}
    if out.is_file() or (out.suffix.lower() in KIND_BY_SUFFIX and not out.is_dir()):
        raise ClientError(f"{out} is a file, or has the name of one: several outputs need a folder")
    kind = OUTPUT_KINDS[kind_name or "mask"]
    return kind, _outputs_in_folder(inputs, out, kind.suffix)


def _kind_of_file(out: Path, kind_name: str | None) -> OutputKind:
    suffix_kind_name = KIND_BY_SUFFIX.get(out.suffix.lower())
    kind = OUTPUT_KINDS[kind_name or suffix_kind_name or "mask"]
    if suffix_kind_name is None or OUTPUT_KINDS[suffix_kind_name].suffix != kind.suffix:
        remedy = f"use {kind.suffix} for {kind_name}" if kind_name else f"use one of {', '.join(KIND_BY_SUFFIX)}"
        raise ClientError(f"{out} has the wrong suffix: {remedy}")
    return kind


def _outputs_in_folder(inputs: list[Path], out: Path, suffix: str) -> dict[Path, Path]:
    """Give each file below the inputs an output below `out`, with its path relative to the inputs' common folder."""
    common = os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in inputs])
    files = [file for path in inputs for file in (find_frames(path, out) if path.is_dir() else [path])]
    # A file that is given twice counts once.
    file_by_name = {Path(os.path.relpath(file, common)): file for file in files}
    # Drop the suffix of the input, but not the last number of a UID. Inputs that differ only in the suffix keep it.
    stems = {name: name.with_suffix("") if name.suffix.lower() in FRAME_SUFFIXES else name for name in file_by_name}
    uses = Counter(stems.values())
    return {
        file: out / f"{name if uses[stems[name]] > 1 else stems[name]}{suffix}" for name, file in file_by_name.items()
    }


def find_frames(folder: Path, out: Path) -> list[Path]:
    """Return the frame files below a folder, sorted; print the names of other files to standard error.

    Hidden files are ignored, and so are earlier outputs below `out`.

    Raises ClientError if there is no frame file.
    """
    outputs = out.resolve() if folder.resolve() in out.resolve().parents else None
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and outputs not in path.resolve().parents
    ]
    frames = [path for path in files if path.suffix.lower() in FRAME_SUFFIXES or is_dicom(path)]
    if not frames:
        raise ClientError(f"{folder} holds no PNG, JPEG, TIFF or DICOM file")
    for path in sorted({*files} - {*frames}):
        print(f"nervemask: {path} is skipped: not a PNG, JPEG, TIFF or DICOM file", file=sys.stderr)
    return frames


def is_dicom(path: Path) -> bool:
    """Return whether the file starts as a DICOM file does. A DICOMDIR does too, but holds no frame."""
    with path.open("rb") as file:
        start = file.read(DICOM_PREAMBLE_BYTES + 4)
    return start[DICOM_PREAMBLE_BYTES:] == b"DICM" and path.name != "DICOMDIR"


def cine_output(output: Path, index: int) -> Path:
    """Return the output file for frame `index` of a cine, where a single frame's output would be `output`.

    PNG: one file per frame, with the index in its name. JSON: one file of JSON lines. DICOM: one file, `output` itself.
    """
    if output.suffix.lower() == ".png":
        return output.with_name(f"{output.stem}_{index:04d}{output.suffix}")
    return output.with_name(output.name + "l") if output.suffix.lower().endswith("json") else output


class OutputFiles:
    """The output files of a batch. Each response gets its own file, and none replaces a frame or an existing file."""

    def __init__(self, outputs: dict[Path, Path], overwrite: bool):
        """Reserve the output files. Raises ClientError if an output file must not be written.

        outputs: the output file of each input file.
        overwrite: replace existing files.
        """
        self.overwrite = overwrite
        self.reserved = {os.path.realpath(frame) for frame in outputs}
        for frame, output in outputs.items():
            self.reserve(output)
            if is_dicom(frame) and (first_output := cine_output(output, 0)) != output:
                self._check(first_output)

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
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
