"""Which files are asked for, and into which the answers go: no two into one, none over what is there, none half."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

READ = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
DICOM_LETTERS_AT = 128


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
            known = f"{kind} goes into *{chosen.suffix}" if kind else f"Its suffix says so: {', '.join(MEANT)}"
            raise ClientError(f"what shall {out} hold? {known}")
        return chosen, {inputs[0]: out}
    if out.is_file() or (out.suffix.lower() in MEANT and not out.is_dir()):
        raise ClientError(f"{out} is a file, or called like one: the answers need a folder")
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
    """All frames in a folder and below it, but what is hidden or an earlier answer; what else lies there is told of.

    Raises ClientError.
    """
    answers = out.resolve() if folder.resolve() in out.resolve().parents else None
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and answers not in path.resolve().parents
    ]
    found = [path for path in files if path.suffix.lower() in READ or is_dicom(path)]
    if not found:
        raise ClientError(f"{folder} holds no PNG, JPEG, TIFF or DICOM file")
    for path in sorted({*files} - {*found}):
        print(f"nervemask: {path} is passed over: no PNG, JPEG, TIFF or DICOM file by its name", file=sys.stderr)
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
