"""`python -m benchmarks [PART...]`: measure parts, all where none is named; into benchmarks/report.md and .json."""

import sys
from importlib import import_module

from benchmarks.report import keep

PARTS = ("serving", "cine", "codecs", "growth", "limit", "training")


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"benchmarks: there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    for name in names or PARTS:
        part = import_module(f"benchmarks.{name}")
        title, _, _ = (part.__doc__ or name).partition("\n")
        keep(name, part.measure, title.rstrip("."), part.tell)


if __name__ == "__main__":
    main(sys.argv[1:])
