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
from service.resources.container_limits import cpu_cores
from service.resources.gpu_detection import gpu_name
from training.workspace.provenance import git_state

FOLDER = Path("benchmarks")
REPORT = "report"
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # the first one that a CPU has is its kind
NOISE = 0.15  # of a figure, between runs on the same machine


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of rows that have the same keys. Their header is made of the keys."""
    headers = {key: _header(key) for row in rows for key in row}
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def _header(key: str) -> str:
    return key.replace("_", " ").replace("mib", "MiB").replace("http", "HTTP")


def describe_machine() -> dict[str, Any]:
    """Return the date, the machine, the commit and the champion of a measurement."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", cpuinfo)
    card = Card.read(model_folder())
    git = git_state()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu[1] if cpu else "unknown",
        "instructions": next((name for name in INSTRUCTIONS if name in cpuinfo.split()), "unknown"),
        "cores": cpu_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu_name() or "none",
        "load_before": round(os.getloadavg()[0], 2),
        "commit": git.commit[:12] + ("+" if git.dirty else ""),
        "champion": f"{card.candidate}, {card.input.height}x{card.input.width}, {card.precision}",
        "trained_on": card.trained_on.source,
    }


def record(part: str, measure: Callable[[], Any], report: str = REPORT) -> Any:
    """Measure, store the figures, render the report, print what became slower, and return the figures.

    The figures replace the part's earlier ones of the same kind of machine.

    part: name of the module in this package. report: name of the report's files, without suffix.
    """
    file = FOLDER / f"{report}.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    entry = {"machine": describe_machine(), "figures": measure()}
    earlier = stored.get(part, [])
    same_kind = [old for old in earlier if _kind(old) == _kind(entry)]
    stored[part] = [entry, *(old for old in earlier if old not in same_kind)]
    file.write_text(json.dumps(stored, indent=1) + "\n")
    render(report)
    for old in same_kind:
        print(f"Slower than on {old['machine']['date']} (commit {old['machine']['commit']}):")
        print("\n".join(slower_figures(old["figures"], entry["figures"])) or "nothing")
    return entry["figures"]


def _kind(entry: dict[str, Any]) -> list[Any]:
    """Return what two measurements must have in common to be compared."""
    return [entry["machine"].get(name) for name in ("cpu", "instructions", "cores", "gpu", "champion")]


def slower_figures(old: Any, new: Any, name: str = "") -> list[str]:
    """Return a line for each figure that became worse by more than NOISE.

    Figures are times, whose names end in `ms` or `seconds`, and rates, whose names end in `per_second`. Rows of lists
    are compared in their order.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        labels = " ".join(value for value in new.values() if isinstance(value, str))
        pairs = [(old[key], new[key], f"{name} {labels} {key}".strip()) for key in new if key in old]
        return [line for pair in pairs for line in slower_figures(*pair)]
    if isinstance(old, list) and isinstance(new, list):
        return [line for row in zip(old, new, strict=False) for line in slower_figures(*row, name)]
    is_rate, is_time = name.endswith("per_second"), name.endswith(("ms", "seconds"))
    if not (is_rate or is_time) or not all(isinstance(value, int | float) and value > 0 for value in (old, new)):
        return []
    ratio = old / new if is_rate else new / old
    return [f"  {name}: {old:g}, now {new:g}"] if ratio > 1 + NOISE else []


def render(report: str) -> None:
    """Write a report's Markdown file from the newest figures of each part."""
    file = FOLDER / f"{report}.json"
    separator = " " if report == REPORT else "."
    sections = []
    for part, (entry, *_) in json.loads(file.read_text()).items():
        module = import_module(f"benchmarks.{part}")
        machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in entry["machine"].items())
        command = f"`python -m benchmarks{separator}{part}` on {machine}"
        sections.append(f"## {module.TITLE}\n\n{command}\n\n{module.to_markdown(entry['figures'])}")
    file.with_suffix(".md").write_text("# Measurements\n\n" + "\n\n".join(sections) + "\n")
    print(f"{file.with_suffix('.md')} is written.")


if __name__ == "__main__":
    for stored_report in sorted(FOLDER.glob("*.json")):
        render(stored_report.stem)
