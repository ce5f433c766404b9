"""The one layout every source is turned into, so that no later stage knows where frames came from.

data/frames/
  manifest.csv                  one row a frame, sorted by subject and number: the fields of `Row`
  frames/<subject>_<n>.<ext>    the source's own frame file, its bytes unchanged
  masks/<subject>_<n>.png       labels, 8-bit grey: 0 background, 1 nerve, 2 vessel; none for an unlabelled frame
  left_out.csv                  file, reason: everything of the source that is not among the frames
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.errors import FrameError
from service.frame import Frame, decode

FRAMES = Path("data/frames")
NERVE, VESSEL = 1, 2  # labels; 0 is background
OTHERWISE = "Or set nerve.on_fault to leave_out in params.yaml: then it is listed in left_out.csv instead."


class SourceError(Exception):
    """A fault of the data: the file, what is wrong with it, and what to do about it."""

    def __init__(self, file: str, reason: str, remedy: str):
        super().__init__(f"{file}: {reason}. {remedy}")
        self.file, self.reason, self.remedy = file, reason, remedy


@dataclass(frozen=True)
class Pair:
    """A frame and its labels, as a source yields them.

    frame: the bytes of the source's own file; suffix: its ending, with the dot (".png").
    labels: uint8 (height, width), rows down axis 0, values 0 background, 1 nerve, 2 vessel, of the frame's own
        height and width; None for a frame that nobody labelled.
    subject: never empty; frames of one subject never stand on both sides of a split.
    number: the frame's order within its subject. spacing_mm: millimetres a pixel, None where not known.
    vessels: whether vessels are labelled where there are some. licence: "" where nobody gave one. file: the frame's
        name in its source, for messages.
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
        return self.labels.shape if self.labels is not None else decode(self.frame).pixels.shape


@dataclass(frozen=True)
class Row:
    """A row of the manifest: the frame's and the mask's path from the manifest's folder, and what is known of them.

    mask is empty for an unlabelled frame; nerve_px counts pixels; vessels is 1 where vessels are labelled too.
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
class Faults:
    """What is wrong with a source: the first fault stops it, or each is listed and its pair left out."""

    leave_out: bool
    listed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, fault: SourceError) -> None:
        """Raises `fault`, or lists it."""
        if not self.leave_out:
            raise SourceError(fault.file, fault.reason, f"{fault.remedy} {OTHERWISE}") from fault
        self.list(fault.file, fault.reason)

    def list(self, file: str, reason: str) -> None:
        """List a file that is no fault, but is not among the frames either."""
        self.listed.append((file, reason))

    def checked(self, work: Callable[[], Pair]) -> Pair | None:
        """What `work` gives, or None where it raises a fault that is left out."""
        try:
            return work()
        except SourceError as fault:
            self.add(fault)
            return None


def frame_of(data: bytes, file: str) -> Frame:
    """The frame in a source's file, read as the service reads an upload. Raises SourceError."""
    try:
        return decode(data)
    except FrameError as fault:
        reason = f"is no readable frame ({fault.message.rstrip('.')})"
        raise SourceError(file, reason, "Replace it, or remove the pair.") from fault


def check_size(mask: np.ndarray, frame: np.ndarray, file: str, remedy: str) -> None:
    """Raises SourceError where the mask in `file`, (height, width), is not of its frame's size."""
    if mask.shape != frame.shape:
        of_mask, of_frame = (f"{width}x{height}" for height, width in (mask.shape, frame.shape))
        raise SourceError(file, f"is {of_mask} pixels, its frame {of_frame}", remedy)


def write(pairs: Iterable[Pair], folder: Path, source: str, faults: Faults) -> list[Row]:
    """Write the pairs into `folder` as they come, then the manifest and the list of what was left out.

    Raises SourceError where there is not one pair.
    """
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    rows = sorted((_write_pair(pair, folder, source) for pair in pairs), key=_order)
    if not any(row.mask for row in rows):
        left_out = "".join(f", {file} {reason}" for file, reason in faults.listed[:1])
        reason = f"gives no frame with a mask ({len(faults.listed)} files left out{left_out})"
        raise SourceError(source, reason, "Look at nerve.path and at the files there.")
    _write_csv(folder / "manifest.csv", [f.name for f in fields(Row)], (asdict(row).values() for row in rows))
    _write_csv(folder / "left_out.csv", ["file", "reason"], sorted(faults.listed))
    return rows


def licences(rows: list[Row]) -> str:
    """Whose frames these are, as far as anybody said."""
    return "; ".join(sorted({row.licence or "licence not known" for row in rows}))


def read_manifest(folder: Path) -> list[Row]:
    """The manifest's rows, in its order."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def read_frame(folder: Path, row: Row) -> Frame:
    """The row's frame, decoded as the service decodes uploads."""
    return decode((folder / row.frame).read_bytes())


def read_labels(folder: Path, row: Row) -> np.ndarray:
    """The row's labels: uint8 (height, width), 0 background, 1 nerve, 2 vessel."""
    return decode((folder / row.mask).read_bytes()).pixels


def _write_pair(pair: Pair, folder: Path, source: str) -> Row:
    stem = f"{pair.subject}_{pair.number}"
    frame, mask = f"frames/{stem}{pair.suffix}", ""
    (folder / frame).write_bytes(pair.frame)
    height, width = pair.size
    if pair.labels is not None:
        mask = f"masks/{stem}.png"
        _, png = cv2.imencode(".png", pair.labels)
        (folder / mask).write_bytes(png.tobytes())
    nerve_px = 0 if pair.labels is None else int(np.count_nonzero(pair.labels == NERVE))
    return Row(
        frame,
        mask,
        pair.subject,
        pair.number,
        height,
        width,
        nerve_px,
        int(pair.vessels),
        pair.spacing_mm,
        source,
        pair.licence,
    )


def _row(cells: dict[str, str]) -> Row:
    values: dict[str, Any] = dict(cells)
    for name in ("number", "height", "width", "nerve_px", "vessels"):
        values[name] = int(cells[name])
    values["spacing_mm"] = float(cells["spacing_mm"]) if cells["spacing_mm"] else None
    return Row(**values)


def _order(row: Row) -> tuple[int, str, int]:
    """Subjects in the order of their numbers where they are numbers."""
    return (int(row.subject), "", row.number) if row.subject.isdigit() else (1 << 60, row.subject, row.number)


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
