"""Store the figures of the last run of each measurement as JSON, and render them as Markdown.

`python -m benchmarks.report` renders all Markdown files again from the stored figures. It measures nothing.
"""

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from service.model.card import Card
from service.model.model_folder import model_folder
from service.resources.machine import cpu_cores, gpu_name
from training.workspace.provenance import git_state

FOLDER = Path("benchmarks")
REPORT = "report"


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of rows that have the same keys. Their header is made of the keys."""
    headers = {key: _header(key) for row in rows for key in row}
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _header(key: str) -> str:
    return key.replace("_", " ").replace("mib", "MiB").replace("http", "HTTP")


def describe_machine() -> dict[str, Any]:
    """Return the date, the machine, the commit and the champion of a measurement."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    card = Card.read(model_folder())
    git = git_state()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu[1] if cpu else "unknown",
        "cores": cpu_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu_name() or "none",
        "load_before": round(os.getloadavg()[0], 2),
        "commit": git.commit[:12] + ("+" if git.dirty else ""),
        "champion": f"{card.candidate}, {card.input.height}x{card.input.width}, {card.precision}",
        "trained_on": card.trained_on.source,
    }


def record(part: str, measure: Callable[[], Any], report: str = REPORT) -> Any:
    """Measure, store the figures in place of the part's earlier ones, render the report, and return the figures.

    part: name of the module in this package. report: name of the report's files, without suffix.
    """
    file = FOLDER / f"{report}.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    machine = describe_machine()
    figures = measure()
    stored[part] = {"machine": machine, "figures": figures}
    file.write_text(json.dumps(stored, indent=1) + "\n")
    render(report)
    return figures


def render(report: str) -> None:
    """Write a report's Markdown file from its stored figures."""
    file = FOLDER / f"{report}.json"
    separator = " " if report == REPORT else "."
    sections = []
    for part, entry in json.loads(file.read_text()).items():
        module = import_module(f"benchmarks.{part}")
        machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in entry["machine"].items())
        command = f"`python -m benchmarks{separator}{part}` on {machine}"
        sections.append(f"## {module.TITLE}\n\n{command}\n\n{module.to_markdown(entry['figures'])}")
    file.with_suffix(".md").write_text("# Measurements\n\n" + "\n\n".join(sections) + "\n")
    print(f"{file.with_suffix('.md')} is written.")


if __name__ == "__main__":
    for stored_report in sorted(FOLDER.glob("*.json")):
        render(stored_report.stem)
