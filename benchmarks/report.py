"""report.json and report.md: what the last run of each part found, and on which machine. Long parts have their own."""

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from service.card import Card, champion_folder
from service.machine import cores
from service.runtime import gpu_name
from training.tracking import commit

FOLDER = Path("benchmarks")
REPORT = "report"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as Markdown."""
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def machine() -> dict[str, Any]:
    """Where and on what was measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    card = Card.read(champion_folder())
    sha, dirty = commit()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu[1] if cpu else "unknown",
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu_name() or "none",
        "load_before": round(os.getloadavg()[0], 2),
        "commit": sha[:12] + ("+" if dirty else ""),
        "champion": f"{card.candidate}, {card.input.height}x{card.input.width}, {card.precision}",
        "trained_on": card.trained_on.source,
    }


def keep(part: str, measure: Callable[[], Any], title: str, tell: Callable[[Any], str], report: str = REPORT) -> Any:
    """Measure one part, put its figures in the place of its earlier ones, and write its report anew. The figures."""
    file = FOLDER / f"{report}.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    on = machine()
    figures = measure()
    kept[part] = {"title": title, "machine": on, "figures": figures, "told": tell(figures)}
    file.write_text(json.dumps(kept, indent=1) + "\n")
    sections = [
        f"## {entry['title']}\n\n`python -m benchmarks{' ' if report == REPORT else '.'}{name}` on "
        f"{told(entry['machine'])}\n\n{entry['told']}"
        for name, entry in kept.items()
    ]
    file.with_suffix(".md").write_text("# What was measured\n\n" + "\n\n".join(sections) + "\n")
    print(f"{part}: {file.with_suffix('.md')}")
    return figures


def told(on: dict[str, Any]) -> str:
    """A machine in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in on.items())
