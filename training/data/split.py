"""Stage split: divide labelled frames into training, validation and test, and write data/split/split.csv."""

import sys

from training.data.manifest import read_manifest
from training.data.split_table import build_split_table
from training.workspace import nerve_parameters, paths
from training.workspace.output_checksums import check_outputs, output_folder


def main() -> None:
    check_outputs(paths.FRAMES)
    rows = [row for row in read_manifest() if row.mask]
    table = build_split_table(rows, nerve_parameters.read_nerve_parameters().split)
    with output_folder(paths.SPLIT) as folder:
        table.to_csv(folder / paths.SPLIT_TABLE.name, index=False)
    counts = table["split"].value_counts()
    if empty := [name for name in ("train", "validation", "test") if not counts.get(name)]:
        sys.exit(
            f"split: no frame is left for {', '.join(empty)}; {counts.get('left_out', 0)} frames are left out, because "
            "their masks contradict those of nearly identical frames. Check the frames and masks."
        )
    print(", ".join(f"{name} {count}" for name, count in counts.items()), f"({table['group'].nunique()} groups)")


if __name__ == "__main__":
    main()
