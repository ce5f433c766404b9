"""Stage split: divide labelled frames into training, validation and test, and write data/split/split.csv."""

from training.data.manifest import read_manifest
from training.data.split_table import build_split_table
from training.workspace import parameters, paths


def main() -> None:
    rows = [row for row in read_manifest() if row.mask]
    table = build_split_table(rows, parameters.read_nerve_parameters().split)
    paths.SPLIT_TABLE.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.SPLIT_TABLE, index=False)
    counts = table["split"].value_counts()
    print(", ".join(f"{name} {count}" for name, count in counts.items()), f"({table['group'].nunique()} groups)")


if __name__ == "__main__":
    main()
