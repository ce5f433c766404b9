"""Stage ingest: the frames and masks of `nerve.source`, checked and brought into the one layout of data/frames."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from training import parameters
from training.sources import kaggle, layout, phantom, usgra
from training.whole import whole

PHANTOM_LICENCE = "Apache-2.0 (made by this project)"


def source_pairs(chosen: dict[str, Any], faults: layout.Faults) -> tuple[Iterable[layout.Pair], str]:
    """The pairs of the source that params.yaml names, and their licence. Raises ParameterError, SourceError."""
    path = parameters.root() / chosen["path"] if chosen["path"] else None
    match chosen["source"]:
        case "phantom":
            return phantom.pairs(**chosen["phantom"]), PHANTOM_LICENCE
        case "usgra":
            return usgra.pairs(path, faults), usgra.LICENCE
        case "kaggle":
            if path is None:
                raise parameters.ParameterError(
                    "nerve.path is empty: Kaggle's files cannot be fetched without an account; download them "
                    "(kaggle.com/c/ultrasound-nerve-segmentation) and name the folder or zip"
                )
            return kaggle.pairs(path, faults), kaggle.LICENCE
        case other:
            raise parameters.ParameterError(f"nerve.source is {other!r}; it can be phantom, usgra or kaggle")


def ingest(chosen: dict[str, Any], folder: Path) -> tuple[list[layout.Row], layout.Faults]:
    """Write the layout of the chosen source to `folder`, whole or not at all."""
    if chosen["on_fault"] not in ("stop", "leave_out"):
        raise parameters.ParameterError(f"nerve.on_fault is {chosen['on_fault']!r}; it can be stop or leave_out")
    faults = layout.Faults(leave_out=chosen["on_fault"] == "leave_out")
    pairs, licence = source_pairs(chosen, faults)
    total = chosen["phantom"]["subjects"] * chosen["phantom"]["frames"] if chosen["source"] == "phantom" else None
    with whole(folder) as unfinished:
        rows = layout.write(_shown(pairs, chosen["source"], total), unfinished, chosen["source"], licence, faults)
    return rows, faults


def _shown(pairs: Iterable[layout.Pair], source: str, total: int | None) -> Iterator[layout.Pair]:
    yield from track(pairs, f"frames of {source}", total=total)


def main() -> None:
    try:
        rows, faults = ingest(parameters.nerve(), layout.FRAMES)
    except (layout.SourceError, parameters.ParameterError) as fault:
        sys.exit(f"ingest: {fault}")
    labelled = [row for row in rows if row.mask]
    empty = sum(row.nerve_px == 0 for row in labelled)
    print(
        f"{len(labelled)} frames with masks of {len({row.subject for row in labelled})} subjects, "
        f"{empty} without a nerve ({empty / len(labelled):.1%}); {len(rows) - len(labelled)} unlabelled; "
        f"{len(faults.listed)} files left out (left_out.csv)"
    )


if __name__ == "__main__":
    main()
