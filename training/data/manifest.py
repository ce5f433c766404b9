"""The layout of data/frames, the same for every source.

data/frames/
  manifest.csv                  one row for each frame, sorted by subject and number; columns: fields of `ManifestRow`
  frames/<subject>_<n>.<ext>    the source's frame file, unchanged
  masks/<subject>_<n>.png       labels, 8-bit grey: 0 background, 1 nerve, 2 vessel; none for an unlabelled frame
  left_out.csv                  file, reason: each file of the source that is not in the data set
"""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.decoding.image_file import decode_image
from training.data.frame_mask_pair import NERVE, FrameMaskPair
from training.data.source_errors import IngestLog, SourceError
from training.workspace import paths


@dataclass(frozen=True)
class ManifestRow:
    """A row of manifest.csv.

    frame, mask: paths relative to the manifest's folder; mask is empty for an unlabelled frame.
    height, width: of the frame, pixels.
    nerve_px: number of nerve pixels in the mask.
    vessels: 1 if vessels are labelled too, else 0.
    source: the value of `nerve.source`.
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


def write_pairs(pairs: Iterable[FrameMaskPair], folder: Path, source: str, log: IngestLog) -> list[ManifestRow]:
    """Write a source's pairs, the manifest and the list of files left out into `folder`; return the rows.

    It holds one pair in memory at a time. Raises SourceError if no frame has a mask.
    """
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    rows = sorted((_write_pair(pair, folder, source) for pair in pairs), key=_sort_key)
    if not any(row.mask for row in rows):
        example = "".join(f"; the first: {file} {reason}" for file, reason in log.left_out[:1])
        reason = f"has no frame with a mask ({len(log.left_out)} files left out{example})"
        raise SourceError(source, reason, "Check nerve.path in params.yaml and the files there.")
    _write_csv(folder / "manifest.csv", [f.name for f in fields(ManifestRow)], (asdict(row).values() for row in rows))
    _write_csv(folder / "left_out.csv", ["file", "reason"], sorted(log.left_out))
    return rows


def read_manifest(folder: Path = paths.FRAMES) -> list[ManifestRow]:
    """Return the rows of the manifest in `folder`, in their order."""
    with (folder / "manifest.csv").open(newline="") as file:
        return [_parse_row(cells) for cells in csv.DictReader(file)]


def read_frame(row: ManifestRow, folder: Path = paths.FRAMES) -> Frame:
    """Return the row's frame, decoded with the service's decoder."""
    return decode_image((folder / row.frame).read_bytes())


def read_labels(row: ManifestRow, folder: Path = paths.FRAMES) -> np.ndarray:
    """Return the labels of a labelled row: uint8 (height, width), 0 background, 1 nerve, 2 vessel."""
    return decode_image((folder / row.mask).read_bytes()).pixels


def read_nerve_mask(row: ManifestRow, folder: Path = paths.FRAMES) -> np.ndarray:
    """Return the nerve mask of a labelled row: bool (height, width)."""
    return read_labels(row, folder) == NERVE


def _write_pair(pair: FrameMaskPair, folder: Path, source: str) -> ManifestRow:
    stem = f"{pair.subject}_{pair.number}"
    frame, mask, nerve_px = f"frames/{stem}{pair.suffix}", "", 0
    (folder / frame).write_bytes(pair.frame_file)
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
    # A file name may hold bytes that are not UTF-8. They are written as they are.
    with path.open("w", newline="", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
