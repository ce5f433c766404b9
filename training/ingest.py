"""Stage ingest: the frames and masks of `nerve.source`, checked and brought into the one layout of data/frames."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import track

from training import parameters
from training.parameters import Nerve
from training.sources import kaggle, layout, phantom, usgra
from training.whole import whole


def source_pairs(chosen: Nerve, faults: layout.Faults) -> Iterable[layout.Pair]:
    """The pairs of the source that params.yaml names. Raises ParameterError, SourceError."""
    path = parameters.root() / chosen.path if chosen.path else None
    match chosen.source:
        case "phantom":
            return phantom.pairs(**chosen.phantom.model_dump())
        case "usgra":
            return usgra.pairs(path, faults)
        case "kaggle" if path:
            return kaggle.pairs(path, faults)
    raise parameters.ParameterError(
        "params.yaml: nerve.path is empty: Kaggle's files cannot be fetched without an account; download them "
        "(kaggle.com/c/ultrasound-nerve-segmentation) and name the folder or zip"
    )


def ingest(chosen: Nerve, folder: Path) -> tuple[list[layout.Row], layout.Faults]:
    """Write the layout of the chosen source to `folder`, whole or not at all."""
    faults = layout.Faults(leave_out=chosen.on_fault == "leave_out")
    pairs = source_pairs(chosen, faults)
    total = chosen.phantom.subjects * chosen.phantom.frames if chosen.source == "phantom" else None
    with whole(folder) as unfinished:
        rows = layout.write(_shown(pairs, chosen.source, total), unfinished, chosen.source, faults)
    return rows, faults


def _shown(pairs: Iterable[layout.Pair], source: str, total: int | None) -> Iterator[layout.Pair]:
    yield from track(pairs, f"frames of {source}", total=total)


def main() -> None:
    try:
        rows, faults = ingest(parameters.nerve(), layout.FRAMES)
    except layout.SourceError as fault:
        sys.exit(f"ingest: {fault}")
    labelled = [row for row in rows if row.mask]
    subjects = {row.subject for row in labelled} - {usgra.UNRECORDED}
    empty = sum(row.nerve_px == 0 for row in labelled)
    print(
        f"{len(labelled)} frames with masks of {f'{len(subjects)} subjects' if subjects else 'unrecorded subjects'}, "
        f"{empty} without a nerve ({empty / len(labelled):.1%}); {len(rows) - len(labelled)} unlabelled; "
        f"{len(faults.listed)} files left out (left_out.csv)"
    )


if __name__ == "__main__":
    main()
