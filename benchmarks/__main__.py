"""`python -m benchmarks [PART...]`: run these measurements, or all, and write benchmarks/report.md and report.json."""

import sys
from importlib import import_module

from benchmarks.report import record

PARTS = ("serving", "cine", "codecs", "scaling", "roofline", "training")


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"benchmarks: unknown part {unknown[0]!r}. Choose from: {', '.join(PARTS)}")
    for name in names or PARTS:
        record(name, import_module(f"benchmarks.{name}").measure)


if __name__ == "__main__":
    main(sys.argv[1:])
