"""The layout of data/frames, the same for every source.

data/frames/
  manifest.csv                  one row for each frame, sorted by subject and number; columns: fields of `ManifestRow`
  frames/<subject>_<n>.<ext>    the source's frame file, unchanged
  masks/<subject>_<n>.png       labels, 8-bit grey: 0 background, 1 nerve, 2 vessel; none for an unlabelled frame
  left_out.csv                  file, reason: each file of the source that is not in the data set
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.decoding.image_file import decode_image
from service.errors import FrameError

NERVE, VESSEL = 1, 2  # labels; 0 is background
SKIP_HINT = "Or set nerve.on_error to skip in params.yaml: then the file is left out and listed in left_out.csv."


class SourceError(Exception):
    """An error in the data of a source: the file, what is wrong with it, and what to do.

    reason: continues a sentence that begins with the file's name ("is a frame without a mask").
    remedy: a full sentence.
    """

    def __init__(self, file: str, reason: str, remedy: str):
        super().__init__(f"{file}: {reason}. {remedy}")
        self.file, self.reason, self.remedy = file, reason, remedy


@dataclass(frozen=True)
class FrameMaskPair:
    """A frame and its labels, as a source yields them.

    frame: the bytes of the source's file.
    suffix: the file's extension with the dot, for example ".png".
    labels: uint8 (height, width), rows down axis 0, of the frame's own size: 0 background, 1 nerve, 2 vessel. None: the
        frame is unlabelled.
    subject: a name, never empty. All frames of a subject go to the same split.
    number: the frame's position among the subject's frames. Neighbouring numbers are neighbours in time or place.
    spacing_mm: millimetres from pixel to pixel. None: unknown.
    vessels: whether vessels are labelled too.
    licence: empty if unknown.
    file: the frame's name in the source, for messages.
    """

    frame: bytes
    suffix: str
    labels: np.ndarray | None
    subject: str
    number: int
    spacing_mm: float | None = None
    vessels: bool = False
    licence: str = ""
    file: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape if self.labels is not None else decode_image(self.frame).pixels.shape


@dataclass(frozen=True)
class ManifestRow:
    """A row of manifest.csv.

    frame, mask: paths relative to the manifest's folder; mask is empty for an unlabelled frame.
    height, width: of the frame, pixels.
    nerve_px: number of nerve pixels in the mask.
    vessels: 1 if vessels are labelled too, else 0.
    The other fields are those of `FrameMaskPair`.
    """

    frame: str
    mask: str
    subject: str
    number: int
    height: int
    width: int
    nerve_px: int
    vessels: int
    spacing_mm: float | None
    source: str
    licence: str


@dataclass
class SourceErrors:
    """What happens with the errors of a source (`nerve.on_error`): the first one is raised, or each is listed.

    skip: list errors instead of raising them.
    left_out: file and reason of each file that is not in the data set.
    """

    skip: bool
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def add(self, error: SourceError) -> None:
        """Raise the error with a hint about nerve.on_error; with `skip`, list its file instead."""
        if not self.skip:
            raise SourceError(error.file, error.reason, f"{error.remedy} {SKIP_HINT}") from error
        self.leave_out(error.file, error.reason)

    def leave_out(self, file: str, reason: str) -> None:
        """List a file of the source that is valid but does not belong to the data set."""
        self.left_out.append((file, reason))

    def attempt(self, read_pair: Callable[[], FrameMaskPair]) -> FrameMaskPair | None:
        """Return the result of `read_pair`; None if it raises a SourceError that is skipped."""
        try:
            return read_pair()
        except SourceError as error:
            self.add(error)
            return None


def decode_frame(data: bytes, file: str) -> Frame:
    """Decode a source's frame file with the service's decoder. Raises SourceError if it is not a readable frame."""
    try:
        return decode_image(data)
    except FrameError as error:
        reason = f"is not a readable frame ({error.message.rstrip('.')})"
        raise SourceError(file, reason, "Replace it, or remove the pair.") from error


def check_size(mask: np.ndarray, frame: np.ndarray, file: str, remedy: str) -> None:
    """Raise SourceError if the mask in `file`, (height, width), differs in size from its frame."""
    if mask.shape != frame.shape:
        mask_size, frame_size = (f"{width}x{height}" for height, width in (mask.shape, frame.shape))
        raise SourceError(file, f"has {mask_size} pixels, but its frame has {frame_size}", remedy)


def write_pairs(pairs: Iterable[FrameMaskPair], folder: Path, source: str, errors: SourceErrors) -> list[ManifestRow]:
    """Write a source's pairs, the manifest and the list of files left out into `folder`; return the rows.

    It holds one pair in memory at a time. Raises SourceError if no frame has a mask.
    """
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    rows = sorted((_write_pair(pair, folder, source) for pair in pairs), key=_sort_key)
    if not any(row.mask for row in rows):
        example = "".join(f"; the first: {file} {reason}" for file, reason in errors.left_out[:1])
        reason = f"has no frame with a mask ({len(errors.left_out)} files left out{example})"
        raise SourceError(source, reason, "Check nerve.path in params.yaml and the files there.")
    _write_csv(folder / "manifest.csv", [f.name for f in fields(ManifestRow)], (asdict(row).values() for row in rows))
    _write_csv(folder / "left_out.csv", ["file", "reason"], sorted(errors.left_out))
    return rows


def describe_licences(rows: list[ManifestRow]) -> str:
    """Return the licences of the rows' frames, separated by semicolons."""
    return "; ".join(sorted({row.licence or "licence not known" for row in rows}))


def read_manifest(folder: Path) -> list[ManifestRow]:
    """Return the rows of the manifest in `folder`, in their order."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [_parse_row(cells) for cells in csv.DictReader(file)]


def read_frame(folder: Path, row: ManifestRow) -> Frame:
    """Return the row's frame, decoded with the service's decoder."""
    return decode_image((folder / row.frame).read_bytes())


def read_labels(folder: Path, row: ManifestRow) -> np.ndarray:
    """Return the labels of a labelled row: uint8 (height, width), 0 background, 1 nerve, 2 vessel."""
    return decode_image((folder / row.mask).read_bytes()).pixels


def _write_pair(pair: FrameMaskPair, folder: Path, source: str) -> ManifestRow:
    stem = f"{pair.subject}_{pair.number}"
    frame, mask, nerve_px = f"frames/{stem}{pair.suffix}", "", 0
    (folder / frame).write_bytes(pair.frame)
    if pair.labels is not None:
        mask, nerve_px = f"masks/{stem}.png", int(np.count_nonzero(pair.labels == NERVE))
        _, png = cv2.imencode(".png", pair.labels)
        (folder / mask).write_bytes(png.tobytes())
    height, width = pair.size
    return ManifestRow(
        frame=frame,
        mask=mask,
        subject=pair.subject,
        number=pair.number,
        height=height,
        width=width,
        nerve_px=nerve_px,
        vessels=int(pair.vessels),
        spacing_mm=pair.spacing_mm,
        source=source,
        licence=pair.licence,
    )


def _parse_row(cells: dict[str, str]) -> ManifestRow:
    values: dict[str, Any] = dict(cells)
    for name in ("number", "height", "width", "nerve_px", "vessels"):
        values[name] = int(cells[name])
    values["spacing_mm"] = float(cells["spacing_mm"]) if cells["spacing_mm"] else None
    return ManifestRow(**values)


def _sort_key(row: ManifestRow) -> tuple[int, str, int]:
    """Sort subjects with numeric names by number, before all others."""
    return (int(row.subject), "", row.number) if row.subject.isdigit() else (1 << 60, row.subject, row.number)


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
